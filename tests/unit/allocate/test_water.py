"""One level for all layers: the sum is the budgets', dead slots change nothing, equal layers share evenly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.allocate.water import WaterAllocate
from keyvalise.ops import water
from keyvalise.types.data import Scores
from keyvalise.types.part import Claim
from tests.unit.builders import make_env

HEADS = 4


def claim(values: Tensor, lengths: list[int], budget: list[int], recent: int = 1) -> Claim:
    """Scores [B, H, T] of rows of these lengths, whose dead slots are poisoned, the newest protected."""
    held = torch.tensor(lengths)[:, None].expand(-1, HEADS)
    slot = torch.arange(values.shape[-1])
    live = slot < held[..., None]
    guard = live & (slot >= held[..., None] - recent)
    return (
        make_env(),
        Scores(values.masked_fill(~live, math.nan)),
        guard,
        held,
        torch.tensor(budget) * HEADS,
    )


def test_it_is_the_water_level_of_the_heads_mean() -> None:
    layers = [
        torch.rand(1, HEADS, 63, generator=torch.Generator().manual_seed(i)) ** (2 * i) for i in (1, 2, 3)
    ]
    claims = [claim(values, [63], [20]) for values in layers]
    counts = WaterAllocate().share(claims)
    guard = torch.arange(63) >= 62
    want = water.counts(torch.cat([values.mean(1) for values in layers]), 60, guard)
    assert [int(one[0, 0]) for one in counts] == want.tolist()
    assert all((one == one[:, :1]).all() for one in counts)
    assert sum(int(one.sum()) for one in counts) == 3 * 20 * HEADS


def test_rows_and_layers_of_different_lengths() -> None:
    claims = [claim(torch.rand(2, HEADS, n), [n, 7], [9, 3]) for n in (30, 17)]
    counts = WaterAllocate().share(claims)
    assert [int(sum(one[row].sum() for one in counts)) for row in (0, 1)] == [18 * HEADS, 6 * HEADS]
    assert all((one <= held).all() for one, (_, _, _, held, _) in zip(counts, claims, strict=True))
    alone = WaterAllocate().share([claim(s.values[1:].nan_to_num(), [7], [3]) for _, s, *_ in claims])
    assert [one[0].tolist() for one in alone] == [one[1].tolist() for one in counts]


def test_equal_layers_share_evenly_and_a_large_budget_holds_all() -> None:
    even = [claim(torch.ones(1, HEADS, 21), [21], [8]) for _ in range(3)]
    assert [one.tolist() for one in WaterAllocate().share(even)] == [[[8] * HEADS]] * 3
    whole = [claim(torch.rand(1, HEADS, 21), [21], [30]) for _ in range(3)]
    assert [one.tolist() for one in WaterAllocate().share(whole)] == [[[21] * HEADS]] * 3
