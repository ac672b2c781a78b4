"""Shares are whole, exact in sum, within bounds, and deterministic."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import rounding


def share(weights: list[float], total: int, caps: list[int], floors: list[int] | None = None) -> list[int]:
    low = None if floors is None else torch.tensor([floors])
    return rounding.share_out(torch.tensor([weights]), torch.tensor([total]), torch.tensor([caps]), low)[
        0
    ].tolist()


def test_largest_remainders_then_lower_index() -> None:
    assert share([5.0, 3.0, 2.0], 7, [9, 9, 9]) == [4, 2, 1]
    assert share([1.0, 1.0, 1.0], 8, [9, 9, 9]) == [3, 3, 2]
    assert share([1.0] * 7, 63, [63] * 7) == [9] * 7


def test_what_a_cap_cuts_off_goes_to_the_others() -> None:
    assert share([1.0, 1.0, 1.0], 12, [2, 9, 9]) == [2, 5, 5]
    assert share([8.0, 2.0, 1.0], 20, [5, 20, 20]) == [5, 10, 5]
    assert share([1.0, 1.0], 50, [7, 9]) == [7, 9]


def test_floors_hold_unless_they_exceed_the_total() -> None:
    assert share([1.0, 1.0, 1.0], 12, [9, 9, 9], [6, 0, 0]) == [6, 3, 3]
    assert share([1.0, 1.0, 1.0], 12, [9, 9, 9], [9, 9, 0]) == [4, 4, 4]
    assert share([0.0, 1.0], 5, [9, 9], [2, 0]) == [2, 3]


def test_zero_weights_are_served_last() -> None:
    assert share([0.0, 1.0], 5, [9, 9]) == [0, 5]
    assert share([0.0, 1.0], 12, [9, 9]) == [3, 9]
    assert share([0.0, 0.0], 5, [9, 9]) == [3, 2]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_sum_and_bounds(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    weights = data.draw(st.lists(st.floats(0, 1e3), min_size=n, max_size=n))
    caps = data.draw(st.lists(st.integers(0, 130), min_size=n, max_size=n))
    floors = [data.draw(st.integers(0, cap)) for cap in caps]
    total = data.draw(st.integers(0, sum(caps) + 7))
    got = share(weights, total, caps, floors)
    assert sum(got) == min(total, sum(caps))
    assert all(0 <= x <= cap for x, cap in zip(got, caps, strict=True))
    if sum(floors) <= total:
        assert all(x >= low for x, low in zip(got, floors, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 63), min_size=2, max_size=6), st.integers(0, 130))
def test_rows_are_independent(weights: list[int], total: int) -> None:
    other = list(reversed(weights))
    caps = torch.full((2, len(weights)), 63)
    both = rounding.share_out(torch.tensor([weights, other]), torch.tensor([total, 7]), caps)
    assert both[0].tolist() == share([float(w) for w in weights], total, [63] * len(weights))


def test_a_weight_of_nothing_is_served_when_the_others_are_full() -> None:
    weights, caps = torch.tensor([1.0, 0.0]), torch.tensor([3, 1])
    for total, want in ((3, [3, 0]), (4, [3, 1])):
        assert rounding.share_out(weights, torch.tensor(total), caps).tolist() == want
