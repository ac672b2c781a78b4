"""masked_oracle: what is dropped is as if it were masked out of the full cache, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from keyvalise import KVCache
from tests.support import drive, oracle
from tests.support.cases import Case
from tests.support.compare import assert_close
from tests.support.models import tiny

LAID = (63, 40, 7)
"""Rows of the padded batch."""


def check(model: object, recipe: str, calls: list[drive.Call]) -> None:
    """Logits of every call against the full cache with the same holes; some must have holes."""
    got, before = oracle.through(model, KVCache(model, recipe), calls)
    want = oracle.masked(model, calls, before)
    seen = int(calls[-1].mask.sum(-1).max())
    assert min(drive.counts(before[-1].kept)) < seen - calls[-1].ids.shape[1], "this run dropped nothing"
    for i, (call, a, b) in enumerate(zip(calls, got, want, strict=True)):
        assert_close(a[call.real], b[call.real], "logits_fp32", what=f"call {i}")


def test_padded_batch_two_turns(forgetting: Case) -> None:
    if forgetting.rhythm:
        pytest.skip("this recipe cuts inside calls, at other columns in every row: see the next test")
    calls = drive.text(*(n + 19 for n in LAID)).calls(63, 1, 1, 1, 1, 1, 9, 1, 1, 1, 1)
    check(tiny("llama"), forgetting.text, calls)


def test_calls_that_end_on_cuts(forgetting: Case) -> None:
    step = forgetting.rhythm or 7
    calls = drive.text(step * 9 + 6, seed=1).calls(*[step] * 9, *[1] * 6)
    check(tiny("llama"), forgetting.text, calls)


def test_the_oracle_notices_an_entry_too_many() -> None:
    model, calls = tiny("llama"), drive.text(40).calls(39, 1)
    got, before = oracle.through(model, KVCache(model, "knorm @ 13tok"), calls)
    before[1].kept[1][0][2].pop()
    if before[1].logw[1] is not None:
        before[1].logw[1][0][2].pop()
    want = oracle.masked(model, calls, before)
    with pytest.raises(AssertionError, match="off by"):
        assert_close(got[1], want[1], "logits_fp32")
    assert torch.equal(got[0], want[0])
