"""What all scores share: shape, finiteness, dead slots, purity, and rows that do not know of each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keyvalise.score.expected import ExpectedScore
from keyvalise.score.global_local import GlobalLocalScore
from keyvalise.score.gumbel import GumbelScore
from keyvalise.score.keydiff import KeydiffScore
from keyvalise.score.mass import MassScore
from keyvalise.score.norm import NormScore
from keyvalise.score.random import RandomScore
from keyvalise.score.recency import RecencyScore
from keyvalise.score.window import WindowScore
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Env, Scores
from keyvalise.types.part import HOST_GIVES, VOCABULARY, Score
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed

ALL = [
    RecencyScore(),
    WindowScore(7),
    WindowScore(130),
    MassScore(),
    MassScore(average=True),
    NormScore(),
    KeydiffScore(),
    RandomScore(),
    ExpectedScore(future=9),
    ExpectedScore(values=False, covariance=False),
    GlobalLocalScore(7),
    GlobalLocalScore(130, "sum"),
    GumbelScore(),
    GumbelScore("expected", tau_init=1.5),
    GumbelScore("none"),
]


def scored(part: Score, history: History, cuts: tuple[int, ...] = (), env: Env | None = None) -> Scores:
    env = env or make_env(history.geometry, rope=make_rope())
    stats: dict[str, torch.Tensor] = {}
    entries = history.entries()
    for observer in part.observers:
        own, watched = observed(observer, env, history, cuts)
        stats |= own
        entries = replace(entries, columns={**entries.columns, **watched.columns})
    return part.score(env, entries, stats, history.piece((0, *cuts)[-1]))


@pytest.mark.parametrize("part", ALL, ids=str)
def test_shape_finite_and_dead_slots_zero(part: Score) -> None:
    check_arguments(part)
    scores = scored(part, History.of(make_geometry(), (63, 20)))
    assert scores.values.dtype == torch.float32
    assert scores.values.shape in [(2, 2, 63), (2, 6, 63)]
    assert scores.values.isfinite().all()
    assert not scores.values[1, :, 20:].any()
    if scores.kind == "mass":
        assert (scores.values >= 0).all()
        assert_close(scores.values.sum(-1), torch.ones(2, 6), "score_fp32")


@pytest.mark.parametrize("part", ALL, ids=str)
def test_a_batch_is_its_rows(part: Score) -> None:
    history = History.of(make_geometry(), (63, 20))
    alone = History(
        history.geometry, history.q[1:, :, 43:], history.k[1:, :, 43:], history.v[1:, :, 43:], (20,)
    )
    both = scored(part, history).values
    assert_close(both[1:, :, :20], scored(part, alone).values, "score_fp32")


@pytest.mark.parametrize("part", ALL, ids=str)
def test_pieces_equal_the_whole(part: Score) -> None:
    history = History.of(make_geometry(), (63, 20))
    whole = scored(part, history).values
    assert_close(scored(part, history, (30, 58, 62)).values, whole, "score_fp32")


@pytest.mark.parametrize("part", ALL, ids=str)
def test_what_it_says_of_itself(part: Score) -> None:
    names = {name for observer in part.observers for name in observer.stats | observer.columns}
    assert part.needs <= VOCABULARY | HOST_GIVES | names
    assert part.gives <= VOCABULARY
    assert part.room == "score"
    # Equal observers of two parts are merged into one.
    assert part.observers == replace(part).observers  # type: ignore[type-var]
