"""Moments of un-rotated queries, in any pieces, without the first ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keyvalise.observe import moments
from keyvalise.observe.moments import MomentsObserver
from keyvalise.ops import rope
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed


def flat(history: History) -> History:
    """The same queries as the model would hand them: rotated by their ordinals."""
    positions = history.stretch.ordinals()[:, None].clamp(min=0)
    return replace(history, q=rope.apply(history.q, positions, make_rope(8, scaling=1.3)))


@pytest.mark.parametrize("cuts", [(), (31,), (2, 50, 51)])
@pytest.mark.parametrize("rotated", [False, True])
def test_any_pieces_equal_the_whole(
    cuts: tuple[int, ...], rotated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments, "BLOCK", 13)
    history = History.of(make_geometry(), (63, 20, 3))
    env = make_env(rope=make_rope(8, scaling=1.3) if rotated else None)
    stats, _ = observed(MomentsObserver(4), env, flat(history) if rotated else history, cuts)
    assert stats["moments4_n"].tolist() == [59, 16, 0]
    for row, count in enumerate((59, 16)):
        own = history.q[row, :, 63 - count :].double()
        centred = own - own.mean(1, keepdim=True)
        assert_close(stats["moments4_mean"][row], own.mean(1), "score_fp32")
        assert_close(stats["moments4_m2"][row], centred.transpose(-1, -2) @ centred, "score_fp32")
    assert_close(stats["moments4_m2"][2], torch.zeros(6, 10, 10), "exact")


def test_without_skip_padding_is_still_skipped() -> None:
    history = History.of(make_geometry(), (63, 20))
    stats, _ = observed(MomentsObserver(), make_env(), history)
    assert stats["moments0_n"].tolist() == [63, 20]
    assert stats["moments0_mean"].isfinite().all()


def test_bytes_are_those_of_the_statistics() -> None:
    observer, env = MomentsObserver(4), make_env()
    stats = observer.init(env, 1, "cpu")
    assert observer.stat_bytes(env.geometry) == sum(t.nbytes for t in stats.values())
    assert observer.stats == stats.keys()
