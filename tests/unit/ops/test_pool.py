"""Pooling: edges, neighbours, dead slots and entries that must go."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import pool
from tests.support.compare import assert_close, assert_same

OUT, NAN = float("-inf"), float("nan")
LIVE = torch.ones(1, 1, 7, dtype=torch.bool)


def test_average_counts_the_zeros_beyond_the_ends() -> None:
    got = pool.average(torch.ones(1, 1, 7), LIVE, 5)
    assert_close(got[0, 0], torch.tensor([3.0, 4, 5, 5, 5, 4, 3]) / 5, "score_fp32")


def test_largest_spreads_to_neighbours() -> None:
    values = torch.tensor([[[0.0, 0, 9, 0, 0, -1, -2]]])
    assert_same(pool.largest(values, LIVE, 3)[0, 0], torch.tensor([0.0, 9, 9, 9, 0, 0, -1]))


@pytest.mark.parametrize("smooth", [pool.average, pool.largest])
def test_padding_changes_nothing(smooth: object) -> None:
    values = torch.rand(1, 2, 63)
    live = torch.ones(1, 2, 63, dtype=torch.bool)
    wide = torch.cat([values, torch.full((1, 2, 9), NAN)], -1)
    mask = torch.cat([live, torch.zeros(1, 2, 9, dtype=torch.bool)], -1)
    got = smooth(wide, mask, 7)  # type: ignore[operator]
    assert_same(got[..., :63], smooth(values, live, 7))  # type: ignore[operator]
    assert_same(got[..., 63:], torch.zeros(1, 2, 9))


@pytest.mark.parametrize("smooth", [pool.average, pool.largest])
def test_what_must_go_does_not_infect_neighbours(smooth: object) -> None:
    values = torch.tensor([[[1.0, 1, OUT, 1, 1, 1, 1]]])
    got = smooth(values, LIVE, 3)[0, 0]  # type: ignore[operator]
    assert got[2] == OUT
    assert got[[0, 1, 3, 4]].isfinite().all()
