"""Merging: who goes where, what keepers hold afterwards, and when attention does not notice."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.act.merge import MergeAct
from keyvalise.ops import merging
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Entries, Scores
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, random

N, H = 63, 2


def merge(part: MergeAct, entries: Entries, keep: Tensor, scores: Tensor | None = None) -> Choice:
    check_arguments(part)
    scores = torch.ones(entries.live.shape) if scores is None else scores
    choice, own = part.act(make_env(), entries, Choice(keep & entries.live), Scores(scores), None)
    assert own is None and part.cost(make_geometry(), N, 7) == 0
    return choice


def attention(q: Tensor, keys: Tensor, values: Tensor, logw: Tensor | None, keep: Tensor) -> Tensor:
    """Softmax attention of q [H, n, D] over the kept entries of row 0, in float64."""
    logits = 0.3 * q.double() @ keys[0].double().transpose(-1, -2)
    if logw is not None:
        logits = logits + logw[0, :, None].double()
    logits = logits.masked_fill(~keep[0, :, None], -math.inf)
    return logits.softmax(-1) @ values[0].double()


def kept_of(entries: Entries, choice: Choice) -> tuple[Tensor, Tensor, Tensor | None]:
    """keys, values and log-weights after the choice."""
    keys = entries.keys() if choice.keys is None else choice.keys
    values = entries.values() if choice.values is None else choice.values
    old = None if entries.logw is None else entries.logw.nan_to_num()
    add = choice.add_logw
    return keys, values, add if old is None else old if add is None else old + add


def some(n: int, seed: int = 0) -> Tensor:
    """A random n of N entries per head."""
    ranks = random(1, H, N, seed=seed + 50).argsort(-1).argsort(-1)
    return ranks < n


def test_runs_are_contiguous_and_hold_plain_means() -> None:
    entries, keep = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1)), some(9)
    choice = merge(MergeAct(), entries, keep)
    assert choice.add_logw is None and torch.equal(choice.keep, keep)
    for head in range(H):
        centres = keep[0, head].nonzero()[:, 0].tolist()
        goal = [min(centres, key=lambda c: (abs(c - t), -c)) for t in range(N)]
        assert goal == sorted(goal)
        for c in centres:
            run = [t for t in range(N) if goal[t] == c]
            for got, x in ((choice.keys, entries.keys()), (choice.values, entries.values())):
                assert got is not None
                assert_close(got[0, head, c], x[0, head, run].mean(0), "attention_fp32")


def test_nearness_is_one_of_ordinals_not_of_slots() -> None:
    ordinals = torch.tensor([0, 1, 2, 50, 51, 60]).expand(1, 1, 6)
    entries = make_entries(torch.arange(6.0).view(1, 1, 6, 1), ordinals=ordinals)
    keep = torch.tensor([[[True, False, False, False, False, True]]])
    choice = merge(MergeAct(), entries, keep)
    assert choice.keys is not None
    assert choice.keys[0, 0, [0, 5], 0].tolist() == [1.0, 4.0]


def test_constant_entries_with_counts_are_the_whole_cache() -> None:
    key, value = random(1, H, 1, 5), random(1, H, 1, 5, seed=1)
    entries, keep = make_entries(key.expand(-1, -1, N, -1), value.expand(-1, -1, N, -1)), some(9)
    q = random(H, 4, 5, seed=3)
    keys, values, logw = kept_of(entries, merge(MergeAct(weight="count"), entries, keep))
    got = attention(q, keys, values, logw, keep)
    assert_close(got, attention(q, entries.keys(), entries.values(), None, entries.live), "attention_fp32")
    assert logw is not None
    assert_close((logw.exp() * keep).sum(-1), torch.full((1, H), float(N)), "attention_fp32")


@pytest.mark.parametrize("into", ["nearest", "similar"])
@pytest.mark.parametrize("keys", ["mean", "keep"])
def test_two_equal_entries_are_one_of_weight_log_two(into: str, keys: str) -> None:
    x, y = random(1, H, N, 5), random(1, H, N, 5, seed=1)
    x[:, :, 30], y[:, :, 30] = x[:, :, 31], y[:, :, 31]
    entries, q = make_entries(x, y), random(H, 4, 5, seed=3)
    keep = (torch.arange(N) != 30).expand(1, H, N)
    want = attention(q, x, y, None, entries.live)
    for weight, is_equal in (("count", True), ("mass", True), ("none", False)):
        part = MergeAct(into, weight, keys)  # type: ignore[arg-type]
        got = kept_of(entries, merge(part, entries, keep))
        error = float((attention(q, *got, keep) - want).abs().max())
        assert (error < 1e-5) == is_equal, f"{weight}: {error}"
        if weight != "none":
            assert got[2] is not None
            assert_close(got[2][..., 31], torch.full((1, H), math.log(2)), "attention_fp32")


def test_an_entry_that_stands_for_many_counts_as_many() -> None:
    weights = torch.zeros(1, 1, 4)
    weights[..., 1] = math.log(5)
    values = torch.tensor([1.0, 7.0, 0.0, 3.0]).view(1, 1, 4, 1)
    entries = make_entries(torch.zeros(1, 1, 4, 1), values, logw=weights)
    keep = torch.tensor([[[True, False, False, True]]])
    choice = merge(MergeAct(weight="count"), entries, keep)
    assert choice.values is not None and choice.add_logw is not None
    assert_close(choice.values[0, 0, [0, 3], 0], torch.tensor([6.0, 1.5]), "attention_fp32")
    assert_close(choice.add_logw[0, 0, [0, 3]], torch.tensor([6.0, 2.0]).log(), "attention_fp32")


def test_similar_joins_the_most_alike_in_key_and_value() -> None:
    x, y, keep = random(1, H, N, 3), random(1, H, N, 3, seed=1), some(12)
    scores = random(1, H, N, seed=5).abs() + 0.1
    part = MergeAct("similar", "mass", zero=0.4)
    choice = merge(part, make_entries(x, y), keep, scores)
    near = [functional.normalize(a[0], dim=-1) for a in (x, y)]
    alike = (near[0] @ near[0].mT).clamp(min=0) * (near[1] @ near[1].mT).clamp(min=0)
    best, goal = alike.masked_fill(~keep[0, :, None], -1).max(-1)
    assert choice.values is not None and choice.keys is not None and choice.add_logw is not None
    n_merged = 0
    for head in range(H):
        for c in keep[0, head].nonzero()[:, 0].tolist():
            is_in = (goal[head] == c) & (best[head] > 0.4) & ~keep[0, head]
            is_in[c] = True
            w = scores[0, head, is_in]
            n_merged += len(w) - 1
            assert_close(
                choice.values[0, head, c], (w[:, None] * y[0, head, is_in]).sum(0) / w.sum(), "score_fp32"
            )
            want = (w[:, None] * near[0][head, is_in]).sum(0)
            want = want / want.norm() * x[0, head, c].norm()
            assert_close(choice.keys[0, head, c], want, "score_fp32")
            assert_close(choice.add_logw[0, head, c], (w.sum() / scores[0, head, c]).log(), "score_fp32")
    assert 10 < n_merged < (~keep).sum()


@pytest.mark.parametrize("zero", [1.0, 2.0])
def test_a_zero_class_that_nothing_beats_is_dropping(zero: float) -> None:
    entries, keep = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1)), some(9)
    choice = merge(MergeAct("similar", "mass", zero=zero), entries, keep)
    keys, values, logw = kept_of(entries, choice)
    assert_same(keys, entries.keys())
    assert_same(values, entries.values())
    assert logw is not None and not logw.any()


def test_without_a_zero_class_everybody_is_somewhere() -> None:
    entries, keep = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1)), some(9)
    choice = merge(MergeAct("similar", "count", zero=-1.0), entries, keep)
    assert choice.add_logw is not None
    assert_close((choice.add_logw.exp() * keep).sum(-1), torch.full((1, H), float(N)), "attention_fp32")


def test_what_vanishes_may_as_well_be_dropped_before() -> None:
    x, y, keep = random(1, 1, N, 3), random(1, 1, N, 3, seed=1), some(12)[:, :1]
    part = MergeAct("similar", "count", zero=0.4)
    whole = merge(part, make_entries(x, y), keep)
    scores = torch.ones(1, 1, N)
    units = [functional.normalize(a[0, 0], dim=-1) for a in (x, y)]
    alike = (units[0] @ units[0].T).clamp(min=0) * (units[1] @ units[1].T).clamp(min=0)
    is_alone = alike.masked_fill(~keep[0], -1).amax(-1) <= 0.4
    scores[0, 0, is_alone & ~keep[0, 0]] = -math.inf
    assert torch.isneginf(scores).any()
    less = merge(part, make_entries(x, y), keep, scores)
    for a, b in ((whole.values, less.values), (whole.keys, less.keys), (whole.add_logw, less.add_logw)):
        assert a is not None and b is not None
        assert_same(a[keep], b[keep])


@pytest.mark.parametrize("part", [MergeAct(), MergeAct("similar", "mass", zero=0.3)], ids=str)
def test_keepers_that_take_nothing_in_stay_bit_for_bit(part: MergeAct) -> None:
    x, y = random(1, H, N, 5).to(torch.bfloat16), random(1, H, N, 5, seed=1).to(torch.bfloat16)
    entries, keep = make_entries(x, y), (torch.arange(N) != 40).expand(1, H, N)
    choice = merge(part, entries, keep)
    for new, old in ((choice.keys, x), (choice.values, y)):
        assert new is not None and new.dtype is torch.bfloat16
        changed = (new != old).any(-1) & keep
        assert (changed.sum(-1) <= 1).all()


@pytest.mark.parametrize("part", [MergeAct(weight="count"), MergeAct("similar", "mass", zero=-1.0)], ids=str)
def test_ragged_heads_and_heads_without_keepers(part: MergeAct) -> None:
    lengths = [[N, 17], [0, 5]]
    entries = make_entries(random(2, H, N, 5), random(2, H, N, 5, seed=1), lengths=lengths)
    keep = (torch.arange(N) % 3 == 0).expand(2, H, N).clone()
    keep[1, 1] = False
    scores = random(2, H, N, seed=7).abs().masked_fill(~entries.live, float("nan"))
    choice = merge(part, entries, keep, scores)
    assert choice.keys is not None and choice.values is not None and choice.add_logw is not None
    for x in (choice.keys, choice.values, choice.add_logw):
        assert x[choice.keep].isfinite().all()
    alone = make_entries(entries.keys()[:1, 1:, :17], entries.values()[:1, 1:, :17])
    small = merge(part, alone, keep[:1, 1:, :17], scores[:1, 1:, :17])
    assert small.values is not None
    mask = small.keep[0, 0]
    assert_close(choice.values[0, 1, :17][mask], small.values[0, 0][mask], "attention_fp32")


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    entries, keep = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1)), some(9)
    part = MergeAct("similar", "count", zero=0.2)
    whole = merge(part, entries, keep)
    monkeypatch.setattr(merging, "BLOCK_BYTES", 1)
    small = merge(part, entries, keep)
    assert whole.values is not None and small.values is not None
    assert_close(small.values, whole.values, "attention_fp32")


def test_scores_become_weights_above_zero() -> None:
    live = torch.ones(1, 1, 4, dtype=torch.bool)
    flat = merging.masses(Scores(torch.tensor([[[-3.0, -1.0, -2.0, -math.inf]]])), live)
    assert flat.tolist() == [[[1.0, 1.0, 1.0, 1.0]]]
    logit = merging.masses(Scores(torch.tensor([[[0.0, math.log(3), -math.inf, 0.0]]]), "logit"), live)
    assert_close(logit[0, 0, [0, 1, 3]], torch.tensor([0.2, 0.6, 0.2]), "score_fp32")
    assert float(logit[0, 0, 2]) > 0


def test_only_log_weights_cost() -> None:
    assert MergeAct().gives == frozenset() and MergeAct(weight="count").gives == {"logw"}
    assert MergeAct.changes_keepers
