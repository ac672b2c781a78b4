"""Which entries stay: the top, and a weighted sample that stands for the rest."""

from __future__ import annotations

import pytest
import torch

from keyvalise.score.random import RandomScore
from keyvalise.select.sample import SampleSelect
from keyvalise.select.top import TopSelect
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Entries, Scores
from keyvalise.types.part import Select
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_piece, random

N = 63


def choose(
    part: Select,
    values: torch.Tensor,
    counts: list[list[int]],
    protect: torch.Tensor,
    *,
    seed: int = 0,
    entries: Entries | None = None,
) -> Choice:
    check_arguments(part)
    entries = entries or make_entries(torch.zeros(*protect.shape, 2))
    scores = Scores(values)
    return part.select(make_env(seed=seed), scores, torch.tensor(counts), protect, entries, scores)


def recents(n_heads: int, n: int) -> torch.Tensor:
    return (torch.arange(N) >= N - n).expand(1, n_heads, N)


@pytest.mark.parametrize("part", [TopSelect(), SampleSelect(), SampleSelect("score")], ids=str)
def test_counts_are_exact_and_the_protected_stay(part: Select) -> None:
    entries = make_entries(torch.zeros(1, 3, N, 2), lengths=[[N, 40, N]])
    protect = recents(3, 7) & entries.live
    values = random(1, 3, N).masked_fill(~entries.live, float("nan"))
    choice = choose(part, values, [[20, 9, 0]], protect, entries=entries)
    assert choice.keep.sum(-1).tolist() == [[20, 9, 0]]
    assert choice.keep[0, 0, -7:].all()
    assert not (choice.keep & ~entries.live).any()
    if choice.add_logw is not None:
        assert choice.add_logw.isfinite().all()
        assert not choice.add_logw[~choice.keep | protect].any()


@pytest.mark.parametrize("part", [TopSelect(), SampleSelect(), SampleSelect("score")], ids=str)
def test_what_must_go_goes_unless_protected(part: Select) -> None:
    values = random(1, 2, N).abs()
    values[..., 30:] = float("-inf")
    choice = choose(part, values, [[50, 50]], recents(2, 7))
    assert choice.keep.sum(-1).tolist() == [[37, 37]]
    assert not choice.keep[..., 30:56].any()


def test_a_larger_count_keeps_a_superset() -> None:
    values = random(1, 2, N)
    small, large = (choose(TopSelect(), values, [[n, n]], recents(2, 7)).keep for n in (20, 33))
    assert (large >= small).all()


def test_sample_keeps_what_random_keeps_and_weighs_it() -> None:
    entries, protect = make_entries(torch.zeros(1, 3, N, 2)), recents(3, 7)
    draws = RandomScore().score(make_env(), entries, {}, make_piece(random(1, 3, 1, 2))).values
    top = choose(TopSelect(), draws, [[20, 30, N]], protect, entries=entries)
    sample = choose(SampleSelect(), torch.zeros(1, 1, N), [[20, 30, N]], protect, entries=entries)
    assert_same(sample.keep.int(), top.keep.int())
    assert sample.add_logw is not None
    for head, n in enumerate((20, 30, N)):
        sampled = sample.keep[0, head, :-7]
        want = torch.tensor(56 / (n - 7)).log().expand(n - 7)
        assert_close(sample.add_logw[0, head, :-7][sampled], want, "score_fp32")


@pytest.mark.parametrize("by", ["uniform", "score"])
def test_weighted_sums_are_unbiased_and_plain_ones_are_not(by: str) -> None:
    n_heads, n_kept, seeds = 40, 20, 25
    mass = random(N, seed=2).exp()
    # Scores that know the summed numbers only roughly: with unrelated ones the spread would hide a bias.
    values = mass.expand(1, 1, N) * (0.3 * random(1, 1, N, seed=1)).exp()
    weighted, plain = [], []
    for seed in range(seeds):
        choice = choose(SampleSelect(by), values, [[n_kept] * n_heads], recents(n_heads, 7), seed=seed)  # type: ignore[arg-type]
        assert choice.add_logw is not None
        weighted.append((choice.add_logw.exp() * choice.keep * mass).sum(-1))
        plain.append((choice.keep * mass).sum(-1))
    sums = torch.cat(weighted).flatten()
    error = float((sums.mean() - mass.sum()).abs())
    assert error < 4 * float(sums.std()) / sums.numel() ** 0.5
    assert float(torch.cat(plain).mean()) < 0.8 * float(mass.sum())


def test_priority_sampling_prefers_large_scores() -> None:
    values = torch.ones(1, 1, N)
    values[..., :5] = 100.0
    choice = choose(SampleSelect("score"), values, [[20] * 9], torch.zeros(1, 9, N, dtype=torch.bool))
    assert choice.keep[0, :, :5].float().mean() > 0.9
