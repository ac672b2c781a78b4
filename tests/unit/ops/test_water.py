"""The water level: no other split leaves the worst-off layer with more."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.ops import water
from tests.unit.builders import random


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 21), st.integers(0, 30), st.booleans())
def test_no_split_retains_more_in_the_worst_layer(total: int, seed: int, is_guarded: bool) -> None:
    mass = (3 * random(3, 7, seed=seed)).exp()
    guard = torch.zeros(7, dtype=torch.bool)
    guard[[0, 6]] = is_guarded
    total = max(total, 3 * int(guard.sum()))
    got = water.counts(mass, total, guard)
    assert got.sum() == total and (got >= guard.sum()).all()
    level = float(water.retained(mass, got, guard).min())
    low = int(guard.sum())
    for split in itertools.product(range(low, 8), repeat=3):
        if sum(split) == total:
            other = water.retained(mass, torch.tensor(split), guard)
            assert float(other.min()) <= level + 1e-12, split


def test_equal_layers_share_evenly_and_zeros_come_last() -> None:
    mass = random(1, 63).exp().expand(4, -1)
    assert water.counts(mass, 42).tolist() == [11, 11, 10, 10]
    peak = torch.zeros(2, 63)
    peak[0, 5] = 1.0
    peak[1] = 1.0
    assert water.counts(peak, 40).tolist() == [1, 39]
    assert water.counts(peak, 126).tolist() == [63, 63]
    assert water.counts(peak, 70).tolist() == [7, 63]


def test_retained_shares() -> None:
    mass = torch.tensor([[4.0, 1, 3, 2], [1, 1, 1, 1]])
    assert water.retained(mass, torch.tensor([2, 3])).tolist() == [0.7, 0.75]
    guard = torch.tensor([False, True, False, False])
    assert water.retained(mass, torch.tensor([2, 1]), guard).tolist() == [0.5, 0.25]
