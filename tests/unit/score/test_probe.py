"""Probes: the definition by plain loops, what an outlier does, and where the statistics come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.observe.spread import SpreadObserver
from keyvalise.observe.window import WindowObserver
from keyvalise.ops import probe, rope
from keyvalise.score.probe import ProbeScore
from keyvalise.types.data import Entries, Env
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_env, make_geometry, make_piece, make_rope, observed, random

PIECE = make_piece(random(1, 6, 1, 10))
REAL = torch.ones(1, 9, dtype=torch.bool)
ROPE = make_rope(8, scaling=1.3)


def moments(q: Tensor) -> probe.Spread:
    """Of all these queries [B, N, S, D]."""
    zeros = torch.zeros(q.shape[0], q.shape[1], q.shape[3])
    real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool)
    return probe.merge((torch.zeros(q.shape[0], dtype=torch.int32), zeros, zeros), q, real)


def probed(q: Tensor, before: Tensor | None = None) -> Tensor:
    """The probe [B, N, D] of a window, whose row has seen these queries before."""
    spread = moments(q if before is None else torch.cat([before, q], 2))
    real = torch.ones(q.shape[0], q.shape[2], dtype=torch.bool)
    return probe.weighted_mean(q, probe.activation_bias(q, spread, real), real)


def scored(
    part: ProbeScore, history: History, env: Env, cuts: tuple[int, ...] = ()
) -> tuple[Tensor, Entries]:
    stats: dict[str, Tensor] = {}
    for observer in (WindowObserver(part.n), SpreadObserver()):
        found, entries = observed(observer, env, history, cuts)
        stats |= found
    return part.score(env, entries, stats, PIECE).values, entries


def wanted(part: ProbeScore, history: History, row: int) -> Tensor:
    """[H, n] in double precision, from un-rotated queries and keys."""
    n, heads = history.counts[row], history.geometry.n_kv_heads
    q, k = (x[row, :, -n:].double() for x in (history.q, history.k))
    mean, variance = q.mean(1, keepdim=True), q.var(1, keepdim=True, unbiased=False)
    window = q[:, -part.n :]
    bias = [
        float(((window[:, i : i + 1] - mean).square() / (variance + variance.mean() / 100)).mean())
        for i in range(window.shape[1])
    ]
    total = sum(weight * window[:, i] for i, weight in enumerate(bias)) / sum(bias)
    speaks = total.unflatten(0, (heads, -1)).mean(1)
    return functional.cosine_similarity(k, speaks[:, None], dim=-1)


@pytest.mark.parametrize("n", [7, 40, 99])
def test_the_definition(n: int) -> None:
    history, part = History.of(make_geometry(), (63, 20, 5)), ProbeScore(n)
    values, entries = scored(part, history, make_env())
    for row, count in enumerate(history.counts):
        assert_close(values[row, :, :count], wanted(part, history, row).float(), "score_fp32")
    assert (values[~entries.live] == 0).all() and values.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("cuts", [(31,), (2, 50, 51)])
def test_rotation_is_undone_and_pieces_do_not_matter(cuts: tuple[int, ...]) -> None:
    history, part = History.of(make_geometry(), (63, 20)), ProbeScore(7, distance=0)
    places = history.stretch.ordinals()[:, None].clamp(min=0)
    met = replace(history, q=rope.apply(history.q, places, ROPE), k=rope.apply(history.k, places, ROPE))
    values, _ = scored(part, met, make_env(rope=ROPE), cuts)
    for row, count in enumerate(history.counts):
        assert_close(values[row, :, :count], wanted(part, history, row).float(), "score_fp32")
    far, _ = scored(replace(part, distance=30), met, make_env(rope=ROPE), cuts)
    assert (far[0] - values[0]).abs().max() > 0.01, "a distance turns the probe"


def test_equally_unusual_queries_make_their_mean() -> None:
    q = random(2, 6, 9, 10)
    even = torch.full((2, 9), 0.3)
    real = torch.ones(2, 9, dtype=torch.bool)
    assert_close(probe.weighted_mean(q, even, real), q.mean(2), "score_fp32")
    same = q[:, :, :1].expand(-1, -1, 9, -1)
    assert_close(probed(same), q[:, :, 0], "score_fp32", what="nothing varies")
    assert_close(probed(q[:, :, :1]), q[:, :, 0], "score_fp32", what="a window of one query")
    # Two opposite queries lie equally far from their mean.
    pair = torch.stack([q[:, :, 0], -q[:, :, 0]], 2)
    assert probed(pair).abs().max() < 1e-5


def test_a_probe_moves_towards_an_outlier() -> None:
    past, common, outlier = random(1, 6, 63, 10), random(1, 6, 1, 10, seed=1), random(1, 6, 1, 10, seed=2)
    shares = []
    for size in (0.0, 1.0, 2.0, 4.0, 8.0):
        odd = common + size * outlier
        window = torch.cat([common.expand(-1, -1, 8, -1), odd], 2)
        bias = probe.activation_bias(window, moments(torch.cat([past, window], 2)), REAL)
        shares.append(float(bias[0, -1] / bias.sum()))
        lean = (probed(window, past) - common[:, :, 0]).flatten() @ outlier.flatten()
        plain = (window.mean(2) - common[:, :, 0]).flatten() @ outlier.flatten()
        assert size == 0 or lean > plain
    assert shares[0] == pytest.approx(1 / 9, abs=1e-5)
    assert shares[1:] == sorted(shares[1:]) and shares[-1] > 0.5


def test_slots_that_are_no_queries_say_nothing() -> None:
    q = random(2, 6, 9, 10)
    real = torch.ones(2, 9, dtype=torch.bool)
    real[1, :5] = False
    spread = moments(q)
    poisoned = q.masked_fill(~real[:, None, :, None], float("nan"))
    bias = probe.activation_bias(poisoned, spread, real)
    assert (bias[1, :5] == 0).all() and bias.isfinite().all()
    got = probe.weighted_mean(poisoned, bias, real)
    alone = probe.weighted_mean(q[1:, :, 5:], bias[1:, 5:], real[1:, 5:])
    assert_close(got[1:], alone, "score_fp32")
    nothing = torch.zeros_like(real)
    bias = probe.activation_bias(poisoned, spread, nothing)
    assert (probe.weighted_mean(poisoned, bias, nothing) == 0).all()


def test_rows_and_layers_have_their_own_statistics() -> None:
    both, part = History.of(make_geometry(), (63, 20)), ProbeScore(7)
    values, _ = scored(part, both, make_env())
    q, k, v = (x[1:, :, 43:] for x in (both.q, both.k, both.v))
    alone, _ = scored(part, History(both.geometry, q, k, v, (20,)), make_env())
    assert_close(values[1, :, :20], alone[0], "score_fp32")
    again, _ = scored(part, both, make_env())
    assert_same(again, values, what="nothing is left of an earlier text")
