"""All queries and the last ones on one scale."""

from __future__ import annotations

from dataclasses import replace

import torch

from keyvalise.score.global_local import GlobalLocalScore
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, observed


def scored(part: GlobalLocalScore, history: History) -> torch.Tensor:
    stats, columns, env = {}, {}, make_env(history.geometry)
    for observer in part.observers:
        own, entries = observed(observer, env, history)
        stats, columns = stats | own, {**columns, **entries.columns}
    return part.score(env, replace(entries, columns=columns), stats, history.piece()).values


def dense(history: History, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Accumulated attention and that of the last n queries, scaled to the same sum: [B, H, N] each."""
    grouped = history.attention().unflatten(1, (2, 3)).mean(2)
    total, local = (history.compact(x.sum(2)) for x in (grouped, grouped[:, :, -n:]))
    return total, local * (total.sum(-1, keepdim=True) / local.sum(-1, keepdim=True))


def test_the_larger_of_both_or_their_sum() -> None:
    history = History.of(make_geometry(), (63, 20))
    total, local = dense(history, 7)
    assert_close(scored(GlobalLocalScore(7), history), torch.maximum(total, local), "score_fp32")
    assert_close(scored(GlobalLocalScore(7, "sum"), history), total + local, "score_fp32")
    assert (local > total).any() and (local < total).any()


def test_a_window_of_everything_is_accumulated_mass() -> None:
    history = History.of(make_geometry(), (63, 20))
    total, _ = dense(history, 7)
    assert_close(scored(GlobalLocalScore(63), history), total, "score_fp32")
    assert_close(scored(GlobalLocalScore(63, "sum"), history), 2 * total, "score_fp32")
