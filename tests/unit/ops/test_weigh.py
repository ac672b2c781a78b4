"""Projected lengths in blocks equal the direct formula, and weights find their heads."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import weigh
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import random


@pytest.mark.parametrize("block", [1, 7 * 4 * 2 * 14, 2**24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_equal_the_whole(block: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    values, matrix = random(2, 2, 63, 10), random(6, 10, 14, seed=1).to(dtype)
    monkeypatch.setattr(weigh, "BLOCK_BYTES", block)
    want = (values.repeat_interleave(3, 1) @ matrix.float()).abs().sum(-1)
    assert_close(weigh.projected_lengths(values, matrix), want, "score_fp32")


def test_no_block_holds_all_entries_of_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weigh, "BLOCK_BYTES", 4 * 14 * 9)
    widths = []
    product = torch.Tensor.__matmul__

    def watched(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        widths.append(a.shape[-2])
        return product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    weigh.projected_lengths(random(1, 2, 63, 10), random(6, 10, 14))
    assert max(widths) == 9 and sum(widths) == 6 * 63


def test_weights_on_fewer_and_on_more_heads() -> None:
    weights = random(2, 6, 7)
    assert_close(weigh.on_heads(weights, 2), weights.unflatten(1, (2, 3)).mean(2), "score_fp32")
    assert_close(weigh.on_heads(weights, 1), weights.mean(1, keepdim=True), "score_fp32")
    assert weigh.on_heads(weights, 6) is weights
    assert_same(weigh.on_heads(weights[:, :2], 6), weights[:, [0, 0, 0, 1, 1, 1]])


def test_shares_sum_to_one_over_the_live() -> None:
    values, live = random(1, 2, 7).abs(), torch.ones(1, 2, 7, dtype=torch.bool)
    values[0, 0, 2], values[0, 0, 6], values[0, 1] = -torch.inf, float("nan"), 0.0
    live[0, 0, 6] = False
    found = weigh.shares(values, live)
    assert_close(found[0, 0].sum(), torch.tensor(1.0), "score_fp32")
    assert not found[0, 0, [2, 6]].any() and not found[0, 1].any()
