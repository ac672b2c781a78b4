"""Accumulated attention: sums and averages rank differently, and a first query is its own attention."""

from __future__ import annotations

import torch

from keyvalise.score.mass import MassScore
from tests.support.compare import assert_close
from tests.unit.builders import History, make_entries, make_env, make_geometry, observed, random


def scored(part: MassScore, history: History) -> torch.Tensor:
    _, entries = observed(part.observers[0], make_env(), history)
    return part.score(make_env(), entries, {}, history.piece()).values


def test_average_divides_by_the_queries_that_could_see() -> None:
    history = History.of(make_geometry(), (63, 20))
    total, mean = scored(MassScore(), history), scored(MassScore(average=True), history)
    seen = torch.stack([63 - torch.arange(63), (20 - torch.arange(63)).clamp(min=1)])[:, None]
    assert_close(mean, total / seen, "score_fp32")


def test_sum_favours_earlier_tokens_than_the_average() -> None:
    history = History.of(make_geometry(), (63,))
    places = torch.arange(63.0)
    total, mean = (scored(MassScore(average=a), history)[0, 0].topk(20).indices for a in (False, True))
    assert set(total.tolist()) != set(mean.tolist())
    assert places[total].mean() < places[mean].mean()


def test_ages_follow_entries_through_evictions() -> None:
    entries = make_entries(
        random(1, 2, 3, 10),
        ordinals=torch.tensor([[[0, 9, 62], [5, 60, 62]]]),
        columns={"mass": torch.ones(1, 2, 3)},
    )
    piece = History.of(make_geometry(), (63,)).piece(62)
    got = MassScore(average=True).score(make_env(), entries, {}, piece).values
    assert_close(1 / got, torch.tensor([[[63.0, 54, 1], [58, 3, 1]]]), "score_fp32")
