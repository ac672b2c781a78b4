"""Counts by the attention that a head pays beyond the sinks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.allocate.activity import ActivityAllocate
from keyvalise.types.data import Scores
from tests.unit.builders import NAN, make_env, random


def counts(
    values: torch.Tensor, budget: int, floor: float = 0.2, sinks: int = 0, lengths: list[int] | None = None
) -> list[int]:
    n_heads, width = values.shape
    sizes = torch.tensor([lengths or [width] * n_heads])
    slots = torch.arange(width)
    values = values[None].masked_fill(slots >= sizes[..., None], NAN)
    protect = (slots < sinks).expand(1, n_heads, -1)
    got = ActivityAllocate(floor).allocate(
        make_env(), Scores(values), protect, sizes.int(), torch.tensor([budget])
    )
    return got[0].tolist()


def parked(*active: float, width: int = 63) -> torch.Tensor:
    """Heads that pay so much beyond the first token, evenly, and the rest to it."""
    share = torch.tensor(active)[:, None]
    return torch.cat([1 - share, (share / (width - 1)).expand(-1, width - 1)], 1)


def test_who_looks_at_the_first_token_alone_keeps_the_floor() -> None:
    assert counts(parked(0.8, 0.0, 0.2), 60, 0.2, sinks=1) == [4 + 38, 4, 4 + 10]
    assert counts(parked(0.8, 0.0, 0.2), 60, 0.2) == [4 + 38, 4, 4 + 10], (
        "sinks that nobody protects count too"
    )
    assert counts(parked(0.5, 0.5, 0.5), 60) == [20, 20, 20]
    assert counts(parked(0.8, 0.0, 0.2), 60, 1.0) == [20, 20, 20]


def test_all_protected_first_entries_are_sinks() -> None:
    values = torch.zeros(2, 63)
    values[0, 3], values[1, 4] = 1.0, 1.0
    assert counts(values, 60, 0.0, sinks=4) == [4, 56]
    assert counts(values, 60, 0.0, sinks=3) == [30, 30]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(7, 63), min_size=3, max_size=3),
    st.integers(21, 189),
    st.floats(0, 1),
    st.integers(0, 7),
    st.integers(0, 9),
)
def test_sums_and_bounds(lengths: list[int], budget: int, floor: float, sinks: int, seed: int) -> None:
    values = random(3, 63, seed=seed).softmax(-1)
    got = counts(values, budget, floor, sinks, lengths)
    assert sum(got) == min(budget, sum(lengths))
    assert all(sinks <= n <= size for n, size in zip(got, lengths, strict=True))
