"""Components: nothing is lost, loud tokens are told from quiet ones, tables fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keyvalise.ops import echo, energy, fitted, strips
from keyvalise.ops.echo import Echo


def components(rank: int, n: int, seed: int = 0) -> np.ndarray:
    """Codes of falling size, some tokens louder than others."""
    rng = np.random.default_rng(seed)
    sizes = 60 * np.exp(-np.arange(rank) / max(rank, 1) * 7)
    loud = np.exp(0.4 * rng.normal(size=n))
    return np.rint(rng.laplace(size=(rank, n)) * sizes[:, None] * loud).astype(np.int32)


def echoes(n: int) -> Echo:
    """Every third token echoes the one three before it."""
    places = np.arange(n)
    has_one = (places % 3 == 0) & (places > 0)
    return Echo(np.where(has_one, places - 3, -1), (places % 5).astype(np.uint8))


def test_codes_come_back() -> None:
    codes = components(13, 63)
    codes[2, 5], codes[12, 1] = 10**6, -7
    plan = fitted.plan(codes)
    packed = strips.pack(codes, plan)
    assert len(packed.escapes) >= 4 and plan.low.max() > 0
    assert np.array_equal(strips.unpack(packed, plan, 63), codes)


@pytest.mark.parametrize(("rank", "n"), [(0, 7), (7, 0), (1, 1)])
def test_nothing_comes_back_as_nothing(rank: int, n: int) -> None:
    codes = components(rank, n)
    plan = fitted.plan(codes)
    assert np.array_equal(strips.unpack(strips.pack(codes, plan), plan, n), codes)


def test_loudness_pays() -> None:
    codes = components(63, 700)
    plan = fitted.plan(codes)
    deaf = dataclasses.replace(plan, shifts=np.zeros(energy.CLASSES, np.int64))
    assert (np.diff(plan.shifts) >= 0).all() and plan.shifts[0] < 0 < plan.shifts[-1]
    assert len(strips.pack(codes, plan).message) < 0.985 * len(strips.pack(codes, deaf).message)


def test_classes_look_back_only() -> None:
    codes = components(13, 63)
    expected = fitted.plan(codes).expected
    changed = codes.copy()
    changed[7:] = 999
    for near in (None, echoes(63)):
        before, after = energy.classes(codes, expected, near)[0], energy.classes(changed, expected, near)[0]
        assert np.array_equal(before[:8], after[:8]) and not np.array_equal(before[8:], after[8:])
        assert (before[0] == 4)[near is None or near.of < 0].all()


def test_echoes_pay_where_they_are_true_and_cost_little_where_not() -> None:
    codes, near = components(63, 700), echoes(700)
    first = strips.pack(codes, fitted.plan(codes))
    wild = len(first.message) + len(first.low)
    packed = strips.pack(codes, fitted.plan(codes, near), near)
    assert len(packed.message) + len(packed.low) < 1.01 * wild
    for i in range(3, 700, 3):
        codes[:, i] = codes[:, i - 3] + (np.arange(63) % 7 == 0)
    packed = strips.pack(codes, fitted.plan(codes, near), near)
    assert len(packed.message) + len(packed.low) < 0.85 * wild
    small, near = codes[:13, :63].copy(), echoes(63)
    small[3, 9] = 10**6
    plan = fitted.plan(small, near)
    assert np.array_equal(strips.unpack(strips.pack(small, plan, near), plan, 63, near), small)


def test_an_echo_is_the_last_token_after_the_same_tokens() -> None:
    ids = np.array([7, 1, 2, 9, 1, 2, 1, 7, 1, 2, 2])
    found = echo.find(ids)
    assert found.of.tolist() == [-1, -1, -1, -1, 1, 2, 4, 0, 1, 2, 9]
    assert found.depth.tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 0]
    # Entries 4 and 5 repeat 1 and 2: what echoes them echoes those.
    source = np.array([0, 1, 2, 3, 1, 2, 6, 7, 8, 9, 10])
    assert found.among(source).of.tolist() == [-1, -1, -1, -1, 1, 0, 1, 2, 7]
    assert echo.find(ids[:0]).of.tolist() == []


def test_missing_bytes_are_noticed() -> None:
    codes = components(13, 63)
    codes[0, 0] = 10**6
    plan = fitted.plan(codes)
    packed = strips.pack(codes, plan)
    for name in ("message", "low", "escapes"):
        run = getattr(packed, name)
        with pytest.raises(ValueError, match=r"do not|cannot|missing|end"):
            strips.unpack(dataclasses.replace(packed, **{name: run[:-4]}), plan, 63)
    with pytest.raises(ValueError, match="more codes"):
        strips.unpack(dataclasses.replace(packed, escapes=packed.escapes * 2), plan, 63)
