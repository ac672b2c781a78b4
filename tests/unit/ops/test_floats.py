"""Floats around predictions: the same bits, whatever they are, near the fewest that do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from keyvalise.ops import bitstring, exact, floats
from keyvalise.ops.floats import BFLOAT16, FLOAT16, FLOAT32, Form

FORMS = pytest.mark.parametrize("form", [BFLOAT16, FLOAT16, FLOAT32], ids=["bf16", "fp16", "fp32"])


def everything(form: Form) -> np.ndarray:
    """All 16-bit words, or many of 32 bits and the odd ones."""
    if form is not FLOAT32:
        return np.arange(2**16).astype(np.uint16)
    odd = np.array([0, 1, 2**31, 2**31 + 1, 0x7F800000, 0xFF800000, 0x7FC00001, 0x007FFFFF], np.uint32)
    return np.concatenate([odd, np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32)])


def words(x: np.ndarray, form: Form) -> np.ndarray:
    """Numbers as words; bfloat16 by cutting."""
    if form is BFLOAT16:
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(np.float16 if form is FLOAT16 else np.float32).view(form.dtype)


@FORMS
def test_bins_and_low_bits_are_the_whole_number(form: Form) -> None:
    given = everything(form)
    j = np.random.default_rng(1).integers(-20, 20, len(given)).astype(np.int32)
    parts = floats.split(given, j, form)
    assert np.array_equal(floats.widths(parts.q, j, parts.listed, form), parts.widths)
    small = np.zeros(len(given), np.int32)
    is_small = np.isin(parts.q, (0, -1)) & ~parts.listed
    small[is_small] = floats.fields(given, form)[is_small]
    assert len(parts.gaps) == is_small.sum()
    found = floats.join(parts.q, j, parts.low, small, form)
    assert np.array_equal(found[~parts.listed], given[~parts.listed])
    high = floats.fields(given, form) == 2**form.exponent - 1
    assert parts.listed[high].all()


@FORMS
def test_any_bits_come_back(form: Form) -> None:
    given = everything(form)
    p = np.random.default_rng(2).normal(size=len(given)).astype(np.float32)
    s = np.random.default_rng(3).integers(-20, 20, len(given)).astype(np.int32)
    packed = exact.pack(given, p, s, form)
    assert np.array_equal(exact.unpack(packed, p, s, form), given)


@FORMS
def test_the_cost_is_that_of_the_error_in_units_of_the_last_place(form: Form) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=20_000).astype(np.float32)
    error = 0.03 * rng.normal(size=len(x)).astype(np.float32)
    given, p = words(x, form), x + error
    s = np.full(len(x), exact.deviation(error), np.int32)
    packed = exact.pack(given, p, s, form)
    n_bits = 8 * sum(len(run) for run in dataclasses.astuple(packed)[2:]) / len(x)
    last_place = np.floor(np.log2(np.abs(x))) - form.mantissa
    ideal = 0.5 * np.log2(2 * np.pi * np.e * 0.03**2) - last_place.mean()
    assert ideal - 0.05 < n_bits < ideal + 0.15


def test_runs_that_do_not_fit_are_noticed() -> None:
    given = everything(FLOAT32)[:2000]
    p, s = np.zeros(len(given), np.float32), np.zeros(len(given), np.int32)
    packed = exact.pack(given, p, s, FLOAT32)
    for name in ("message", "escapes", "gaps", "low", "listed"):
        run = getattr(packed, name)
        assert run
        with pytest.raises(ValueError, match=r"missing|fit|end"):
            exact.unpack(dataclasses.replace(packed, **{name: run[:-4]}), p, s, FLOAT32)


def test_low_bits_come_back() -> None:
    rng = np.random.default_rng(5)
    values, widths = rng.integers(0, 2**24, 777), rng.integers(0, 25, 777)
    data = bitstring.pack(values, widths)
    assert len(data) == bitstring.size(widths) == -(-widths.sum() // 8)
    assert np.array_equal(bitstring.unpack(data, widths), values & ((1 << widths) - 1))
    with pytest.raises(ValueError, match="cannot hold"):
        bitstring.unpack(data + b"\0", widths)
