"""absolute_lse: every segment says the whole log-sum-exp; a constant left out would be wrong as soon as it
is merged.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from keyvalise.types.geometry import Geometry
from tests.support import segments
from tests.support.compare import assert_close
from tests.support.segments import KINDS, Runs

SHAPE = Geometry(1, 6, 2, 10, 10, torch.float32, 10**-0.5)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_lse_is_the_sum_of_all_weights(kind: str, n: int, softcap: float | None) -> None:
    shape = Geometry(1, 6, 2, 10, 10, torch.float32, 10**-0.5, softcap)
    runs = Runs.random(shape, [[31, 31], [31, 31]], weighs=True).causal(kind, n)
    asked = segments.queries(shape, 2, n)
    got = runs.segment(kind, n).attend(asked)[0]
    assert_close(got.lse, segments.reference(asked.q, runs).lse, "attention_fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_in_the_keys_is_not_dropped(kind: str) -> None:
    """Far from zero, where an implementation that works relative to a mean would show."""
    runs = Runs.random(SHAPE, [[31, 31]]).causal(kind, 3)
    runs = replace(runs, keys=runs.keys + 7.0)
    asked = segments.queries(SHAPE, 1, 3)
    want = segments.reference(asked.q, runs)
    assert_close(runs.segment(kind, 3).attend(asked)[0].lse, want.lse, "attention_fp32")


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_for_all_moves_the_lse_by_as_much(kind: str) -> None:
    bare = Runs.random(SHAPE, [[31, 31]])
    weighted = replace(bare, logw=torch.full((62,), math.log(5)))
    asked = segments.queries(SHAPE, 1, 1)
    a, b = (runs.segment(kind, 0).attend(asked)[0] for runs in (bare, weighted))
    assert_close(b.lse, a.lse + math.log(5), "attention_fp32")
    assert_close(b.out, a.out, "attention_fp32")


def test_equal_entries_count_as_many() -> None:
    """Twice the same entry is one entry of weight log 2."""
    once = Runs.random(SHAPE, [[8, 8]])
    twice = Runs(
        SHAPE, (1, 2), (16, 16), once.keys.repeat_interleave(2, 0), once.values.repeat_interleave(2, 0), None
    )
    weighted = Runs(SHAPE, (1, 2), (8, 8), once.keys, once.values, torch.full((16,), math.log(2)))
    asked = segments.queries(SHAPE, 1, 2)
    a, b = (runs.segment("ragged").attend(asked)[0] for runs in (twice, weighted))
    assert_close(a.lse, b.lse, "attention_fp32")
    assert_close(a.out, b.out, "attention_fp32")


def test_a_sink_is_read_and_gives_nothing() -> None:
    asked, sink = segments.queries(SHAPE, 2, 3), segments.null(SHAPE)
    got = sink.attend(asked)[0]
    assert torch.equal(got.lse, sink.logits.view(1, -1, 1).expand(2, 6, 3))
    assert not got.out.any()
