"""dtype_device: models and caches of 16 bits stay within the rounding of their numbers, wherever they lie."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from tests.support import drive, oracle
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = (
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param(
        "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no mps device")
    ),
)


ONE_NOW = [pytest.param(half, marks=[pytest.mark.slow] if i else []) for i, half in enumerate(HALVES)]
"""The first now, the others in `make slow`."""


def raw_dtypes(cache: KVCache) -> set[torch.dtype]:
    """The dtypes of raw keys and values."""
    memories = [layer.memory for layer in cache.shared.layers.values()]
    held = [named for memory in memories for segment in memory.segments for named in segment.tensors()]
    return {tensor.dtype for field, _, tensor in held if field in ("keys", "values")}


@pytest.mark.parametrize("half", HALVES)
def test_full_in_half_precision(half: str) -> None:
    model = tiny("llama", HALVES[half])
    calls = drive.text(76, 50).calls(63, 1, 1, 9, 1)
    want = drive.run(model, DynamicCache(config=model.config), calls).logits
    for i, got in enumerate(drive.run(model, KVCache(model), calls).logits):
        assert got.dtype is HALVES[half]
        bound = "exact" if i == 0 else f"logits_{half}"
        assert_close(got[calls[i].real], want[i][calls[i].real], bound, what=f"call {i}")


@pytest.mark.parametrize("half", ONE_NOW)
def test_dropping_in_half_precision_is_masking(forgetting: Case, half: str) -> None:
    if forgetting.rhythm:
        return  # cuts inside calls
    model = tiny("llama", HALVES[half])
    calls = drive.text(76, 50).calls(63, 1, 1, 9, 1)
    got, before = oracle.through(model, KVCache(model, forgetting.text), calls)
    want = oracle.masked(model, calls, before)
    for i, call in enumerate(calls):
        assert_close(got[i][call.real], want[i][call.real], f"logits_{half}", what=f"call {i}")


@pytest.mark.parametrize("half", ONE_NOW)
def test_codes_in_half_precision(coding: Case, half: str) -> None:
    model, wide = tiny("llama", HALVES[half]), tiny("llama")
    calls = drive.text(76).calls(63, 1, 1, 9, 1)
    cache = KVCache(model, coding.text)
    trail = drive.run(model, cache, calls)
    assert all(logits.isfinite().all() and logits.dtype is HALVES[half] for logits in trail.logits)
    assert raw_dtypes(cache) <= {HALVES[half]}
    full = drive.run(wide, KVCache(wide, "full"), calls).cache.nbytes
    assert cache.nbytes < (full if coding.reads else full / 2), "what stands for units takes room too"


@pytest.mark.parametrize("half", ONE_NOW)
def test_a_cache_may_be_held_in_half_the_bytes(case: Case, half: str) -> None:
    """The prompt is read as it came; what is read later is rounded once."""
    model, calls = tiny("llama"), drive.text(70).calls(63, 1, 1)
    wide, narrow = KVCache(model, case.text), KVCache(model, case.text, dtype=HALVES[half])
    want, got = drive.run(model, wide, calls), drive.run(model, narrow, calls)
    if not case.rhythm:
        assert_close(got.logits[0], want.logits[0], "exact")
    assert got.logits[1].dtype is torch.float32
    assert raw_dtypes(narrow) == {HALVES[half]}
    if not (case.drops or case.codes or case.reads):
        assert 1.9 * narrow.nbytes < wide.nbytes
        for a, b in zip(got.logits, want.logits, strict=True):
            assert_close(a, b, f"logits_{half}")


@pytest.mark.parametrize("device", DEVICES)
def test_another_device_keeps_the_same(case: Case, device: str) -> None:
    keyvalise.detach(case.model)
    model = copy.deepcopy(case.model).to(device)
    calls = drive.text(76, 50).calls(63, 1, 1, 9, 1)
    want = drive.run(case.model, KVCache(case.model, case.text), calls)
    moved = [drive.Call(c.ids.to(device), c.mask.to(device), c.positions.to(device)) for c in calls]
    got = drive.run(model, KVCache(model, case.text), moved)
    assert got.kept == want.kept
    for call, a, b in zip(calls, got.logits, want.logits, strict=True):
        assert_close(a.cpu()[call.real], b[call.real], "logits_coded")
