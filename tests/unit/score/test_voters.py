"""Voters: the best heads of a layer speak for all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keyvalise.score.voters import VotersRescore
from keyvalise.types.data import Scores
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, make_piece, random

PIECE = make_piece(random(2, 6, 1, 10))
RANKS = torch.tensor([[0.1, 0.9, 0.3, 0.8, 0.2, 0.4], [0.6, 0.5, 0.4, 0.3, 0.2, 0.1], [1.0] * 6])


def vote(
    values: torch.Tensor, n: int, layer: int = 0, ranks: torch.Tensor = RANKS, kind: str = "mass"
) -> Scores:
    part = VotersRescore("x", n)
    env = replace(
        make_env(make_geometry(query_heads=6, kv_heads=2), layer=layer), fixed={"x": {"heads": ranks}}
    )
    entries = make_entries(random(2, 2, 63, 10), lengths=[[63, 63], [20, 20]])
    return part.rescore(env, Scores(values, kind), entries, {}, PIECE)  # type: ignore[arg-type]


def votes(axis: int) -> torch.Tensor:
    values = random(2, axis, 63).softmax(-1)
    values[1, :, 20:] = float("nan")
    return values


@pytest.mark.parametrize(("layer", "best"), [(0, [1, 3]), (1, [0, 1]), (2, [0, 1])])
def test_the_mean_of_the_best_heads_and_the_lower_of_equals(layer: int, best: list[int]) -> None:
    values = votes(6)
    got = vote(values, 2, layer)
    assert got.kind == "mass" and got.values.shape == (2, 1, 63)
    assert_same(got.values[0], values[0, best].mean(0, keepdim=True))
    assert_same(got.values[1, :, :20], values[1, best, :20].mean(0, keepdim=True))
    assert (got.values[1, :, 20:] == 0).all()


def test_all_heads_or_more_are_the_layers_mean() -> None:
    values = votes(6)
    for n in (6, 99):
        assert_close(vote(values, n).values[0, 0], values[0].mean(0), "score_fp32")


def test_scores_and_profiles_of_other_heads() -> None:
    assert torch.equal(vote(votes(1), 2).values.nan_to_num(7.0), votes(1).nan_to_num(7.0))
    # Groups of layer 0 are led by 0.9 and 0.8, of layer 1 by 0.6 and 0.3.
    values = votes(2)
    assert_same(vote(values, 1).values[0], values[0, :1])
    assert_same(vote(votes(6), 3, ranks=torch.tensor([[0.2, 0.9]])).values[0, 0], votes(6)[0, 3:].mean(0))


def test_an_entry_that_must_go_goes() -> None:
    values = votes(6)
    values[0, :, 5] = -torch.inf
    assert vote(values, 2, kind="free").values[0, 0, 5] == -torch.inf
