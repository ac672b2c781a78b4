"""Components: nothing is lost, loud tokens are told from quiet ones, tables fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keyvalise.ops import energy, fitted, strips


def components(rank: int, n: int, seed: int = 0) -> np.ndarray:
    """Codes of falling size, some tokens louder than others."""
    rng = np.random.default_rng(seed)
    sizes = 60 * np.exp(-np.arange(rank) / max(rank, 1) * 7)
    loud = np.exp(0.4 * rng.normal(size=n))
    return np.rint(rng.laplace(size=(rank, n)) * sizes[:, None] * loud).astype(np.int32)


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
    before, after = energy.classes(codes, expected), energy.classes(changed, expected)
    assert np.array_equal(before[:8], after[:8]) and not np.array_equal(before[8:], after[8:])
    assert (before[0] == energy.CLASS[32]).all()


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
