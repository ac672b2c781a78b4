"""Expected attention: its pieces, its simple cases, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from keyvalise.ops import rope
from keyvalise.score.expected import ExpectedScore
from keyvalise.types.data import Env
from tests.support.compare import assert_close
from tests.unit.builders import History, make_env, make_geometry, make_rope, observed, random


def scored(part: ExpectedScore, history: History, env: Env) -> torch.Tensor:
    stats, entries = observed(part.observers[0], env, history)
    return part.score(env, entries, stats, history.piece()).values


def of_rotated(q: torch.Tensor, seed: int = 0) -> tuple[History, Env]:
    """A history whose model queries are q [1, 6, N, 10] turned by their positions, and its environment."""
    env = make_env(rope=make_rope(8, scaling=1.3))
    history = History.of(make_geometry(), (q.shape[2],), seed)
    assert env.rope is not None
    return replace(history, q=rope.apply(q, torch.arange(q.shape[2]), env.rope)), env


def test_one_rotated_mean_query() -> None:
    q = random(1, 6, 63, 10)
    history, env = of_rotated(q)
    got = scored(ExpectedScore(future=1, skip=0, covariance=False, values=False), history, env)
    assert env.rope is not None
    next_query = rope.apply(q.mean(2), torch.tensor(63), env.rope)
    keys = history.k.repeat_interleave(3, 1)
    want = (env.geometry.scale * keys @ next_query[..., None]).squeeze(-1).softmax(-1)
    assert_close(got, want, "score_fp32")


def test_constant_queries_have_no_covariance() -> None:
    q = random(1, 6, 1, 10).expand(-1, -1, 63, -1).clone()
    history, env = of_rotated(q)
    with_it, without = (scored(ExpectedScore(covariance=c), history, env) for c in (True, False))
    assert_close(with_it, without, "score_fp32")
    other, _ = of_rotated(random(1, 6, 63, 10))
    spread, point = (scored(ExpectedScore(covariance=c), other, env) for c in (True, False))
    assert not torch.allclose(spread, point, rtol=0.01)


def test_the_order_of_the_queries_does_not_matter() -> None:
    q = random(1, 6, 63, 10)
    history, env = of_rotated(q)
    shuffled, _ = of_rotated(torch.cat([q[:, :, :4], q[:, :, 4:].flip(2)], 2))
    part = ExpectedScore()
    assert_close(scored(part, shuffled, env), scored(part, history, env), "score_fp32")


@pytest.mark.parametrize("interleaved", [False, True])
def test_covariance_is_turned_by_the_mean_rotation(interleaved: bool) -> None:
    data = make_rope(8, interleaved=interleaved)
    env, history = make_env(rope=data), History.of(make_geometry(), (63,))
    part = ExpectedScore(future=9, skip=0, values=False)
    stats, entries = observed(part.observers[0], env, history)
    turn = torch.stack([rope.apply(torch.eye(10), torch.tensor(63 + i), data) for i in range(9)]).mean(0).T
    mean, covariance = stats["moments0_mean"] @ turn.T, turn @ (stats["moments0_m2"] / 63) @ turn.T
    keys, scale = history.k.repeat_interleave(3, 1), env.geometry.scale
    logits = scale * (keys @ mean[..., None]).squeeze(-1)
    logits += 0.5 * scale**2 * torch.einsum("bhti,bhij,bhtj->bht", keys, covariance, keys)
    got = part.score(env, entries, stats, history.piece()).values
    assert_close(got, logits.softmax(-1), "score_fp32")


def test_values_and_eps() -> None:
    history, env = History.of(make_geometry(), (63,)), make_env()
    shares = scored(ExpectedScore(values=False), history, env)
    lengths = history.v.norm(dim=-1).repeat_interleave(3, 1)
    assert_close(scored(ExpectedScore(eps=0.01), history, env), (shares + 0.01) * lengths, "score_fp32")
    assert_close(scored(ExpectedScore(eps=0.01, values=False), history, env), shares + 0.01, "score_fp32")
