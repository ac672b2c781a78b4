"""Queries of a window that search as one: the definition by plain loops, and what they reduce to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.ops import rope
from keyvalise.retrieve.now import NowQuery
from keyvalise.retrieve.probe import ProbingQuery
from keyvalise.types.data import Env, Queries
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed, random

ROPE = make_rope(8, scaling=1.3)


def of(q: Tensor) -> History:
    """Rows that met these queries [B, Hq, S, D]."""
    return History(make_geometry(), q, q[:, :2], q[:, :2], (q.shape[2],) * q.shape[0])


def asked(part: ProbingQuery, history: History, env: Env, cuts: tuple[int, ...] = ()) -> Tensor:
    """What the last query of a history asks, all others having been met."""
    width = history.q.shape[2]
    q, k, v = (x[:, :, : width - 1] for x in (history.q, history.k, history.v))
    before = replace(history, q=q, k=k, v=v, counts=tuple(n - 1 for n in history.counts))
    stats: dict[str, Tensor] = {}
    for observer in part.observers:
        stats |= observed(observer, env, before, cuts)[0]
    stretch = history.stretch.cut(width - 1, width)
    return part.query(env, Queries(history.q[:, :, -1:], stretch, history.geometry, env.rope, stats=stats))


def wanted(history: History, row: int, n: int) -> Tensor:
    """[Hq, D] in double precision, from un-rotated queries."""
    q = history.q[row, :, -history.counts[row] :].double()
    mean, variance = q.mean(1, keepdim=True), q.var(1, keepdim=True, unbiased=False)
    total, weights = torch.zeros_like(q[:, 0]), 0.0
    for i in range(max(q.shape[1] - n, 0), q.shape[1]):
        off = q[:, i : i + 1] - mean
        bias = float((off.square() / (variance + variance.mean() / 100)).mean())
        total, weights = total + bias * q[:, i], weights + bias
    return total / weights


@pytest.mark.parametrize("n", [2, 7, 99])
@pytest.mark.parametrize("cuts", [(), (2, 50)])
def test_the_definition(n: int, cuts: tuple[int, ...]) -> None:
    history, part = History.of(make_geometry(), (63, 20, 5)), ProbingQuery(n)
    got = asked(part, history, make_env(), cuts)
    assert got.dtype == torch.float32 and part.is_ready(make_env(), None) is None  # type: ignore[arg-type]
    for row in range(3):
        assert_close(got[row], wanted(history, row, n).float(), "score_fp32", what=f"row {row}")


def test_queries_are_compared_unrotated_and_turned_to_the_newest_place() -> None:
    history, part = History.of(make_geometry(), (63, 20)), ProbingQuery(7)
    places = history.stretch.ordinals()[:, None].clamp(min=0)
    met = replace(history, q=rope.apply(history.q, places, ROPE))
    got = asked(part, met, make_env(rope=ROPE))
    for row, n in enumerate(history.counts):
        want = rope.apply(wanted(history, row, 7).float(), torch.tensor(n - 1), ROPE)
        assert_close(got[row], want, "score_fp32")


@pytest.mark.parametrize("turning", [None, ROPE])
def test_one_query_speaks_for_itself_and_costs_nothing(turning: object) -> None:
    history, env = History.of(make_geometry(), (63, 20)), make_env(rope=turning)  # type: ignore[arg-type]
    queries = Queries(history.q[:, :, -1:], history.stretch.cut(62, 63), history.geometry, env.rope)
    part = ProbingQuery(1)
    assert part.observers == () and part.needs == frozenset()
    assert_same(part.query(env, queries), NowQuery().query(env, queries))
    first = History.of(make_geometry(), (1,))
    assert_close(
        asked(ProbingQuery(7), first, make_env()), first.q[:, :, 0], "score_fp32", what="the first of all"
    )


def test_equally_unusual_queries_make_their_mean() -> None:
    one, other = random(1, 6, 1, 10), random(1, 6, 1, 10, seed=1)
    # Of two kinds that are met equally often, all lie equally far from their mean.
    q = torch.cat([one, other] * 10, 2)
    got = asked(ProbingQuery(6), of(q), make_env())
    assert_close(got, q[:, :, -6:].mean(2), "score_fp32")
    same = one.expand(-1, -1, 20, -1)
    got = asked(ProbingQuery(6), of(same), make_env())
    assert_close(got, one[:, :, 0], "score_fp32", what="nothing varies")


@pytest.mark.parametrize("place", [-1, -3])
def test_an_outlier_leads_the_more_the_farther_it_lies(place: int) -> None:
    past, outlier, likeness = random(1, 6, 63, 10), random(1, 6, 10, seed=2), []
    for size in (1.0, 4.0, 16.0, 64.0):
        q = past.clone()
        q[:, :, place] = size * outlier
        got = asked(ProbingQuery(5), of(q), make_env())
        likeness.append(float((got / size - outlier).norm() / outlier.norm()))
    assert likeness == sorted(likeness, reverse=True) and likeness[-1] < 0.2


def test_rows_have_their_own_statistics() -> None:
    both, part = History.of(make_geometry(), (63, 20)), ProbingQuery(7)
    got = asked(part, both, make_env())
    q, k, v = (x[1:, :, 43:] for x in (both.q, both.k, both.v))
    alone = asked(part, History(both.geometry, q, k, v, (20,)), make_env())
    assert_close(got[1], alone[0], "score_fp32")
