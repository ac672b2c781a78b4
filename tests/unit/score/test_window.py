"""SnapKV's vote: dense definition, H2O's ranking for a whole window, TOVA for one query."""

from __future__ import annotations

import torch

from keyvalise.ops import heads
from keyvalise.score.layer import LayerRescore
from keyvalise.score.mass import MassScore
from keyvalise.score.window import WindowScore
from keyvalise.types.data import Scores
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, observed


def window(history: History, n: int) -> Scores:
    part = WindowScore(n)
    stats, entries = observed(part.observers[0], make_env(history.geometry), history)
    return part.score(make_env(history.geometry), entries, stats, history.piece())


def test_mean_of_the_last_rows() -> None:
    history = History.of(make_geometry(softcap=2.0), (63, 20))
    got = window(history, 7).values
    want = history.compact(history.attention()[:, :, -7:].mean(2))
    assert_close(got, want, "score_fp32")


def test_a_short_row_uses_what_it_has() -> None:
    history = History.of(make_geometry(), (63, 5))
    assert_close(
        window(history, 7).values[1, :, :5], history.attention()[1, :, -5:, -5:].mean(1), "score_fp32"
    )


def test_a_window_of_everything_ranks_like_accumulated_mass() -> None:
    history = History.of(make_geometry(), (63, 63))
    part = MassScore()
    _, entries = observed(part.observers[0], make_env(), history)
    mass = part.score(make_env(), entries, {}, history.piece()).values
    votes = heads.reduce(window(history, 63), history.geometry).values
    assert_close(63 * votes, mass, "score_fp32")
    assert torch.equal(votes.argsort(-1), mass.argsort(-1))


def test_one_query_and_the_mean_over_heads() -> None:
    history = History.of(make_geometry(), (63,))
    entries = history.entries()
    got = LayerRescore().rescore(make_env(), window(history, 1), entries, {}, history.piece())
    assert got.kind == "mass"
    assert_close(got.values, history.attention()[:, :, -1].mean(1, keepdim=True), "score_fp32")
