"""Mean and variance of queries: any pieces, padding, rotation, and the diagonal of the whole covariance."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keyvalise.observe import spread
from keyvalise.observe.moments import MomentsObserver
from keyvalise.observe.spread import SpreadObserver
from keyvalise.ops import rope
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed

ROPE = make_rope(8, scaling=1.3)


def turned(history: History) -> History:
    places = history.stretch.ordinals()[:, None].clamp(min=0)
    return replace(history, q=rope.apply(history.q, places, ROPE))


@pytest.mark.parametrize("cuts", [(), (31,), (2, 50, 51), tuple(range(55, 63))])
@pytest.mark.parametrize("turns", [False, True])
def test_any_pieces_equal_the_whole(
    cuts: tuple[int, ...], turns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spread, "BLOCK", 13)
    history = History.of(make_geometry(), (63, 20, 1))
    env = make_env(rope=ROPE if turns else None)
    stats, _ = observed(SpreadObserver(), env, turned(history) if turns else history, cuts)
    assert stats["spread_n"].tolist() == [63, 20, 1]
    for row, count in enumerate(history.counts):
        own = history.q[row, :, 63 - count :].double()
        assert_close(stats["spread_mean"][row], own.mean(1).float(), "score_fp32")
        squares = (own - own.mean(1, keepdim=True)).square().sum(1)
        # A sum of squares may lose what a single rotated number is off.
        assert (stats["spread_m2"][row].double() - squares).abs().max() <= 1e-5 * max(1.0, squares.max())


def test_it_is_the_diagonal_of_the_moments() -> None:
    history, env = History.of(make_geometry(), (63, 7)), make_env(rope=ROPE)
    own, _ = observed(SpreadObserver(), env, history, (9, 40))
    whole, _ = observed(MomentsObserver(), env, history, (31,))
    assert_close(own["spread_mean"], whole["moments0_mean"], "score_fp32")
    assert_close(own["spread_m2"], whole["moments0_m2"].diagonal(dim1=-2, dim2=-1), "score_fp32")


def test_a_row_that_has_seen_nothing_has_nothing() -> None:
    history = History.of(make_geometry(), (12, 3))
    observer, env = SpreadObserver(), make_env()
    stats, _ = observer.update(env, observer.init(env, 2, "cpu"), history.piece(0, 9), history.entries())
    assert stats["spread_n"].tolist() == [9, 0]
    assert all((stats[name][1] == 0).all() for name in ("spread_mean", "spread_m2"))


def test_bytes_are_those_of_the_statistics() -> None:
    observer, env = SpreadObserver(), make_env()
    stats = observer.init(env, 1, "cpu")
    assert observer.stat_bytes(env.geometry) == sum(x.nbytes for x in stats.values())
    assert observer.stats == stats.keys() and not observer.columns
