"""The binary layout: as many full heads as fit, the highest gates first, and never one too many."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.allocate import layout
from keyvalise.allocate.layout import LayoutAllocate
from tests.unit.allocate.profiled import table

GATES = torch.linspace(0, 1, 12)[torch.randperm(12, generator=torch.Generator().manual_seed(5))].view(3, 4)


@settings(max_examples=60, deadline=None)
@given(st.integers(7, 130), st.integers(8, 130), st.floats(0, 1))
def test_the_most_full_heads_that_fit(per_head: int, seen: int, full: float) -> None:
    got = table(LayoutAllocate("x", full), GATES, [per_head], [seen], guarded=(2, 5))[0]
    if per_head >= seen:
        assert got.unique().tolist() == [seen]
        return
    assert set(got.unique().tolist()) <= {7, seen}
    n = int((got == seen).sum()) if seen > 7 else 0
    assert got.sum() <= 12 * per_head
    assert n == int(12 * full + 1e-9) or n * seen + (12 - n) * 7 + seen - 7 > 12 * per_head
    assert n <= 12 * full + 1e-9
    assert set(got.flatten().argsort(descending=True, stable=True)[:n].tolist()) == set(
        GATES.flatten().topk(n).indices.tolist()
    )
    assert layout.knob(12, (per_head + 0.001) / seen, 7, seen, full).n_full == n


def test_equal_gates_are_dealt_out_over_the_layers() -> None:
    tied = torch.ones(3, 4)
    assert layout.places(tied).tolist() == [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]
    tied[0, 3], tied[1, 1] = 2.0, 0.5
    assert layout.places(tied).tolist() == [[3, 6, 9, 0], [1, 11, 4, 7], [2, 5, 8, 10]]


def test_query_heads_count_by_the_best_of_their_group() -> None:
    query = torch.zeros(3, 8)
    query[2, 5] = 1
    got = table(LayoutAllocate("x", 0.1), query, [60], [63], guarded=(2, 5))[0]
    assert got.tolist() == [[7] * 4, [7] * 4, [7, 7, 63, 7]]


def test_a_head_that_dropped_never_becomes_full_again() -> None:
    lengths = torch.full((1, 3, 4), 100)
    lengths[0, 1:] = 8
    gates = GATES + torch.tensor([[9.0], [0], [0]])
    got = table(LayoutAllocate("x"), gates, [90], [100], guarded=(2, 5), lengths=lengths)[0]
    assert got[0].tolist() == [100] * 4
    assert got[1:].unique().tolist() == [7]


def test_heads_that_protect_nothing_keep_one() -> None:
    got = table(LayoutAllocate("x", 0.0), GATES, [9], [100], guarded=(0, 0))[0]
    assert got.unique().tolist() == [1]


def test_rows_are_laid_out_by_themselves() -> None:
    both = table(LayoutAllocate("x"), GATES, [40, 63], [130, 63], guarded=(2, 5))
    assert both[1].unique().tolist() == [63]
    assert torch.equal(both[0], table(LayoutAllocate("x"), GATES, [40], [130], guarded=(2, 5))[0])


def test_the_knob_says_what_a_budget_comes_to() -> None:
    assert layout.knob(256, 0.5, 320, 320) == (0, 0.5), "protected are the newest, up to the budget"
    assert layout.knob(256, 1.0, 320, 320) == (256, 1.0)
    found = layout.knob(256, 0.5, 320, 32_000)
    assert found.n_full == 126 and 0.49 < found.share <= 0.5
    assert layout.knob(256, 0.99, 320, 32_000, 0.5).n_full == 128
    assert layout.knob(12, 0.06, 7, 130) == (0, 7 / 130)
