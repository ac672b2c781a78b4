"""Merged moments equal those of everything at once; the Gaussian logit is its defining expectation."""

from __future__ import annotations

import torch

from keyvalise.ops import moments
from tests.support.compare import assert_close
from tests.unit.builders import random


def empty(n_rows: int, n_heads: int, dim: int) -> moments.Moments:
    return (
        torch.zeros(n_rows, dtype=torch.int32),
        torch.zeros(n_rows, n_heads, dim),
        torch.zeros(n_rows, n_heads, dim, dim),
    )


def test_merge_equals_the_whole_and_skips_what_is_not_real() -> None:
    x, real = 5 + random(2, 3, 63, 7), torch.ones(2, 63, dtype=torch.bool)
    real[1, :20] = False
    x[1, :, :20] = float("nan")
    found = empty(2, 3, 7)
    for begin, end in ((0, 11), (11, 12), (12, 63)):
        found = moments.merge(found, x[:, :, begin:end], real[:, begin:end])
    count, mean, scatter = found
    assert count.tolist() == [63, 43]
    for row, first in enumerate((0, 20)):
        own = x[row, :, first:].double()
        assert_close(mean[row], own.mean(1), "score_fp32")
        centred = own - own.mean(1, keepdim=True)
        assert_close(scatter[row], centred.transpose(-1, -2) @ centred, "score_fp32")


def test_gaussian_logit_is_the_log_of_a_mean_exponential() -> None:
    keys, mean = random(1, 2, 63, 4), random(1, 6, 4, seed=1)
    factor = 0.3 * random(1, 6, 4, 4, seed=2)
    got = moments.gaussian_logits(keys, mean, factor @ factor.transpose(-1, -2), 0.5)
    variance = 2 * (got - moments.gaussian_logits(keys, mean, None, 0.5))
    noise = random(40000, 4, seed=3)
    for head in (0, 5):
        queries = (mean[0, head] + noise @ factor[0, head].T).double()
        want = (0.5 * queries @ keys[0, head // 3].double().T).exp().mean(0).log()
        # The mean of n log-normal numbers has the relative standard deviation √((e^variance − 1) / n).
        assert ((got[0, head] - want).abs() < 5 * (variance[0, head].expm1() / 40000).sqrt()).all()


def test_blocks_change_nothing(monkeypatch: object) -> None:
    keys, mean, covariance = random(2, 2, 63, 4), random(2, 4, 4), random(2, 4, 4, 4)
    whole = moments.gaussian_logits(keys, mean, covariance, 0.5)
    monkeypatch.setattr(moments, "BLOCK_BYTES", 8 * 2 * 4 * 4 * 5)  # type: ignore[attr-defined]
    assert_close(moments.gaussian_logits(keys, mean, covariance, 0.5), whole, "score_fp32")
