"""Arrays as planes, steady functions, repetitions."""

from __future__ import annotations

import numpy as np
import pytest

from keyvalise.ops import planes, repeats, steady

KINDS = ("u1", "i1", "i2", "u2", "i4", "i8", "f2", "f4", "f8")


@pytest.mark.parametrize("kind", KINDS)
def test_planes_come_together_again(kind: str) -> None:
    dtype = np.dtype(kind)
    raw = np.random.default_rng(0).integers(0, 256, (63, 7 * dtype.itemsize), dtype=np.uint8)
    x = raw.view(dtype)
    for turn in planes.turns(dtype):
        for width in planes.widths(dtype):
            parts = planes.split(x, turn, width)
            assert parts.shape == (8 * dtype.itemsize // width, 63, 7) and parts.max() < 2**width
            assert planes.join(parts, turn, width, dtype).tobytes() == x.tobytes()


def test_small_integers_and_signs_are_folded_away() -> None:
    x = np.array([[-3], [2], [0], [-1]], np.int32)
    assert not planes.split(x, planes.FOLDED, 8)[:3].any()
    exponents = planes.split(np.array([[1.0], [-1.0]], np.float32), planes.SIGN_LAST, 8)[0]
    assert exponents[0] == exponents[1]


def test_classes_are_about_equal() -> None:
    symbols = np.random.default_rng(1).binomial(255, 0.4, (630, 7)).astype(np.uint8)
    found = planes.classes(planes.borders(symbols))[symbols]
    share = np.bincount(found.ravel(), minlength=planes.CLASSES) / symbols.size
    assert share.max() < 3 / planes.CLASSES and (share > 0).sum() >= planes.CLASSES - 2


def test_steady_functions_are_the_functions() -> None:
    rng = np.random.default_rng(2)
    x = -50 * rng.random(5000)
    assert np.abs(steady.exp(x) / np.exp(x) - 1).max() < 1e-15 * 4
    assert steady.exp(np.array([0.0, -1e9])).tolist() == [1.0, steady.exp(np.array([-700.0]))[0]]
    phase = 1e5 * (rng.random(5000) - 0.5)
    cos, sin = steady.cos_sin(phase)
    assert max(np.abs(cos - np.cos(phase)).max(), np.abs(sin - np.sin(phase)).max()) < 1e-10


def test_products_add_in_order() -> None:
    turn = np.array([[1.0, 1e8, -1e8]], np.float32)
    assert steady.product(turn, np.ones((3, 7), np.float32)).tolist() == [[0.0] * 7]
    assert steady.product(turn[:, ::-1], np.ones((3, 7), np.float32)).tolist() == [[1.0] * 7]


def test_the_first_of_equals_leads() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [1, 3], [3, 4]], np.int16)
    assert repeats.groups(rows).tolist() == [0, 1, 0, 3, 1]
    assert repeats.groups(rows[:0]).tolist() == []
    first = np.array([0, 1, 0, 3, 1])
    x = np.array([[1.0, 1], [2, 2], [1, 1.4], [0, 0], [2, 2.1]], np.float32)
    assert repeats.confirm(first, x, np.full_like(x, 0.2)).tolist() == [0, 1, 2, 3, 1]


@pytest.mark.parametrize("is_interleaved", [False, True])
def test_radii_are_lengths_of_turned_pairs(is_interleaved: bool) -> None:
    x = np.array([[3.0, 4, 4, 3, -7, 0, 6, 8, 8, 1]], np.float32)
    found = repeats.radii(x, 2, 4, is_interleaved)
    assert found[0, :5].tolist() == [5, 5, 5, 5, 7]
    want = (
        [6.0, 6, np.sqrt(np.float32(128)), np.sqrt(np.float32(128)), 1]
        if is_interleaved
        else [8.0, 10, 8, 10, 1]
    )
    assert np.allclose(found[0, 5:], want)
