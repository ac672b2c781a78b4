"""Counts by a threshold: what scores enough, in whole groups of equals, within the budget."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keyvalise.allocate import threshold
from keyvalise.allocate.threshold import ThresholdAllocate
from keyvalise.types.data import Scores
from tests.unit.builders import NAN, make_env

GRADES = st.lists(
    st.lists(st.sampled_from([2.0, 0.9, 0.5, 0.3, 0.04, 0.0]), min_size=9, max_size=9), min_size=3, max_size=3
)


def counts(values: Tensor, budget: int, at: float = 0.95, protect: Tensor | None = None) -> list[int]:
    """Counts of one row of heads [H, T], behind whose entries lie two poisoned slots."""
    wide = torch.nn.functional.pad(values, (0, 2), value=NAN)[None]
    guard = torch.zeros(wide.shape, dtype=torch.bool)
    if protect is not None:
        guard[0, :, : values.shape[1]] = protect
    lengths = torch.full((1, len(values)), values.shape[1], dtype=torch.int32)
    found = ThresholdAllocate(at).allocate(make_env(), Scores(wide), guard, lengths, torch.tensor([budget]))
    assert found.dtype == torch.int64
    return found[0].tolist()


@settings(max_examples=80, deadline=None)
@given(GRADES, st.integers(3, 26), st.sampled_from([0.0, 0.5, 0.65, 0.95, 1.0]))
def test_the_largest_threshold_that_fits(grades: list[list[float]], budget: int, at: float) -> None:
    values = torch.tensor(grades)
    got = counts(values, budget, at)
    assert sum(got) <= budget
    steps = torch.tensor([1 - t / 1000 for t in range(int(at * 1000), -1100, -1)])
    fitting = (values > steps[:, None, None]).sum(-1)
    want = fitting[int((fitting.sum(-1) <= budget).nonzero()[0])].tolist()
    if sum(want) == 0 and max(map(max, grades)) > 1 - at:
        best = values.max()
        assert sum(got) == min(budget, int((values == best).sum()))
    else:
        assert got == want


def test_a_threshold_of_one_keeps_all_that_scores_at_all() -> None:
    values = torch.tensor([[2.0, 1e-38, 0.3], [0.0, 0.5, 0.2]])
    assert counts(values, 5, 1.0) == [3, 2]
    assert counts(values, 5, 0.0) == [1, 0]


def test_what_must_go_goes_and_what_is_protected_stays() -> None:
    values = torch.tensor([[2.0, 0.6, -torch.inf, -torch.inf], [0.01, 0.6, 0.01, -torch.inf]])
    assert counts(values, 7) == [2, 1]
    guard = torch.tensor([[False, False, False, True], [True, False, False, False]])
    assert counts(values, 7, protect=guard) == [3, 2]
    assert counts(values, 3, protect=guard) == [2, 1], "sixes fit no more"
    assert counts(values, 2, protect=guard) == [1, 1]


def test_rows_that_fit_keep_everything() -> None:
    assert counts(torch.zeros(2, 5), 10, 0.0) == [5, 5]


@pytest.mark.parametrize(("room", "want"), [(0, 0.0), (1, 0.5), (3, 0.7), (4, 0.7), (5, 0.9), (9, 0.95)])
def test_the_knob_says_what_a_budget_comes_to(room: int, want: float) -> None:
    values = torch.tensor([[[2.0, 0.5, 0.3], [0.5, 0.1, 0.3]]])
    found = float(threshold.knob(values, torch.tensor([room]), 0.95))
    assert abs(found - want) < 1e-6
