"""The choice of the highest equals a sort written out in Python."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import topk

OUT = float("-inf")


def top(values: list[float], count: int, protect: list[int] = (), length: int | None = None) -> list[int]:  # type: ignore[assignment]
    width = len(values)
    guard = torch.tensor([[[t in protect for t in range(width)]]])
    live = (torch.arange(width) < (width if length is None else length)).view(1, 1, -1)
    keep = topk.top(torch.tensor([[values]]), torch.tensor([[count]]), guard, live)
    return keep[0, 0].nonzero().flatten().tolist()


def test_of_equals_the_later_stays() -> None:
    assert top([1.0] * 7, 3) == [4, 5, 6]
    assert top([2.0, 1.0, 2.0, 1.0, 2.0], 4) == [0, 2, 3, 4]


def test_protected_come_first_and_the_newest_of_them() -> None:
    assert top([0.0, 9.0, 8.0, 7.0], 2, [0]) == [0, 1]
    assert top([0.0, 9.0, 8.0, 7.0], 2, [0, 2, 3]) == [2, 3]
    assert top([OUT, 9.0, 8.0], 2, [0]) == [0, 1]


def test_what_must_go_goes() -> None:
    assert top([OUT, 1.0, OUT, 0.0], 3) == [1, 3]


def test_dead_slots_never_win() -> None:
    assert top([1.0, 2.0, float("nan"), 9.0], 3, [3], length=2) == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=63), st.integers(0, 70), st.integers(0, 9))
def test_equals_a_plain_sort(values: list[int], count: int, recent: int) -> None:
    protect = list(range(max(len(values) - recent, 0), len(values)))
    rank = {t: (t in protect, 0 if t in protect else values[t], t) for t in range(len(values))}
    ranked = sorted(rank, key=rank.__getitem__, reverse=True)
    assert top([float(v) for v in values], count, protect) == sorted(ranked[:count])


def test_one_score_for_all_heads() -> None:
    values, live = torch.rand(2, 1, 63), torch.ones(2, 3, 63, dtype=torch.bool)
    counts = torch.tensor([[7, 7, 7], [0, 63, 8]])
    keep = topk.top(values, counts, ~live, live)
    assert torch.equal(keep.sum(-1), counts)
    assert torch.equal(keep[0, 0], keep[0, 2])
