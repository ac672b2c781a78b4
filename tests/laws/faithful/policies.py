"""Relations of systems whose own rule says how much is kept: a policy for a head, a rate for a layer."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise import KVCache, Recipe
from keyvalise.allocate import attentive
from keyvalise.allocate.threshold import ThresholdAllocate
from keyvalise.ops.heads import How
from keyvalise.recipe.compose import compose
from keyvalise.score.policies import PoliciesScore
from keyvalise.types.data import Scores
from keyvalise.types.errors import BadArgument, InputError
from tests.laws.faithful.table import Heads, N, best, kept, of
from tests.support import drive, profiles, stock
from tests.support.models import VOCABULARY, tiny
from tests.unit.builders import History, make_env, make_geometry

LAYERS, HEADS, SHARE = 3, 4, 21
"""SHARE: 30 % of the prompt."""

BOUND = "@ 69tok"
"""A budget that binds where all heads of a layer are full, and nowhere else."""


def classes(n: int = N) -> Tensor:
    """The classes of the first tokens: 1 special, 2 punctuation."""
    return profiles.classes(VOCABULARY).tensors["classes"][drive.text(n).ids[0]]


def policies(layer: int, how: How = "mean") -> tuple[list[Heads], Tensor]:
    """(policy → head → what it keeps of the prompt, recovered shares [H, 5]), plainly from the matrices."""
    matrix = stock.prompt(N).attention[layer].unflatten(0, (HEADS, -1))
    matrix = matrix.mean(1) if how == "mean" else matrix.amax(1)
    kinds, sums = classes(), matrix.sum(1)
    near = torch.arange(N)[:, None] - torch.arange(N) < SHARE
    sets, recovered = [], []
    for h in range(HEADS):
        special, punctuation = kinds == 1, (kinds == 1) | (kinds == 2)
        often = punctuation.clone()
        often[sums[h].masked_fill(punctuation, -1).topk(SHARE).indices] = True
        local = often | (torch.arange(N) >= N - SHARE)
        masks = [special.expand(N, N), punctuation.expand(N, N), often.expand(N, N), often | near]
        lost = [float((matrix[h] * ~mask).sum()) / N for mask in masks]
        recovered.append([1 - x for x in lost] + [1.0])
        whole = torch.ones(N, dtype=torch.bool)
        sets.append(
            [mask.nonzero().flatten().tolist() for mask in (special, punctuation, often, local, whole)]
        )
    return [[head[k] for head in sets] for k in range(5)], torch.tensor(recovered)


def chosen(layer: int, threshold: float, how: How = "mean") -> tuple[list[int], Heads]:
    """(policies, what they keep) of the heads of a layer."""
    sets, recovered = policies(layer, how)
    first = [int((row >= threshold).nonzero()[0]) for row in recovered]
    return first, [sets[k][h] for h, k in enumerate(first)]


@of("fastgen")
def every_head_follows_the_first_policy_that_recovers_enough() -> None:
    met = set()
    for how in ("mean", "max"):
        for threshold in (0.02, 0.08, 0.3, 0.57, 0.77, 0.9, 0.94):
            found = kept(f"fastgen(threshold={threshold}, reduce={how}) {BOUND}")
            for layer, heads in enumerate(found):
                first, want = chosen(layer, threshold, how)
                met |= set(first)
                full = first.count(4) == HEADS
                assert full or heads == want, (how, threshold, layer)
    assert met == {0, 1, 2, 3, 4}, "every policy is some head's"


@of("fastgen")
def policies_are_nested_and_recover_more_and_more() -> None:
    for layer, how in itertools.product(range(LAYERS), ("mean", "max")):
        sets, recovered = policies(layer, how)
        for smaller, larger in itertools.pairwise(sets):
            assert all(set(a) <= set(b) for a, b in zip(smaller, larger, strict=True))
        assert bool((recovered.diff(dim=-1) >= 0).all()) and bool((recovered[:, 4] == 1).all())


@of("fastgen")
def the_ends_of_the_threshold() -> None:
    special = (classes() == 1).nonzero().flatten().tolist()
    assert kept(f"fastgen(threshold=0.0) {BOUND}") == [[special] * HEADS] * LAYERS
    everything = [[list(range(N + 3))] * HEADS] * LAYERS
    assert kept("fastgen(threshold=1.0) @ 80tok", 1, 1, 1) == everything
    sizes = [
        sum(len(head) for heads in kept(f"fastgen(threshold={t / 20}) {BOUND}") for head in heads)
        for t in range(21)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[10] < sizes[20]


@of("fastgen")
def a_group_keeps_at_least_what_its_most_demanding_head_needs() -> None:
    for layer in range(LAYERS):
        matrix = stock.prompt(N).attention[layer]
        sets, _ = policies(layer, "max")
        for threshold in (0.3, 0.6, 0.8):
            first, _ = chosen(layer, threshold, "max")
            for head in range(matrix.shape[0]):
                k = first[head // 2]
                mask = torch.zeros(N, N, dtype=torch.bool)
                mask[:, sets[min(k, 2)][head // 2]] = True
                if k == 3:
                    mask |= torch.arange(N)[:, None] - torch.arange(N) < SHARE
                recovered = 1.0 if k == 4 else float((matrix[head] * mask).sum()) / N
                assert recovered >= threshold - 1e-5


@of("fastgen")
def while_decoding_heads_follow_their_policies() -> None:
    n_new, followed = 20, set()
    kinds, new = classes(N + n_new), list(range(N, N + n_new))
    for threshold in (0.02, 0.08, 0.3, 0.77, 0.937):
        for layer, heads in enumerate(kept(f"fastgen(threshold={threshold}) {BOUND}", *[1] * n_new)):
            for policy, was, head in zip(*chosen(layer, threshold), heads, strict=True):
                followed.add(policy)
                added = [t for t in head if t >= N]
                stores = {0: (1,), 1: (1, 2), 4: (0, 1, 2)}
                if policy in stores:
                    assert head == was + [t for t in new if int(kinds[t]) in stores[policy]]
                else:
                    assert len(head) - sum(int(kinds[t]) > 0 for t in head) <= (policy - 1) * SHARE
                if policy == 3:
                    assert added == new and set(was) - set(head), "the newest take the place of others"
    assert followed == {0, 1, 2, 3, 4}


@of("fastgen")
def a_policy_that_a_budget_forbade_is_not_taken_up_later() -> None:
    n_new = 30
    kinds = classes(N + n_new)
    before, after = (kept("fastgen @ 40%", *steps) for steps in ((), (1,) * n_new))
    n_low = 0
    for layer in range(LAYERS):
        sets, _ = policies(layer)
        for h in range(HEADS):
            if before[layer][h] in (sets[0][h], sets[1][h]):
                n_low += 1
                added = [t for t in after[layer][h] if t >= N]
                assert all(int(kinds[t]) > 0 for t in added)
    assert n_low > 0


@of("fastgen")
def heads_that_look_at_one_token_and_heads_that_look_everywhere() -> None:
    history = History.of(make_geometry(query_heads=4, kv_heads=2, dim=8), (40,))
    history.q[:], history.k[:] = 1.0, 0.0
    history.k[:, 0, 0] = 9.0
    ids = (torch.arange(40) == 0).long()[None]
    table = {"classes": {"classes": torch.tensor([0, 1], dtype=torch.int8)}}
    env, part = replace(make_env(history.geometry), fixed=table), PoliciesScore()
    piece, entries = replace(history.piece(), taps={"ids": ids}), history.entries()
    (watched,) = part.observers
    stats, columns = watched.update(env, watched.init(env, 1, "cpu"), piece, entries)
    entries = replace(entries, columns=columns)
    scores, protect = part.score(env, entries, stats, piece), torch.zeros_like(entries.live)
    counts = ThresholdAllocate().allocate(env, scores, protect, entries.lengths, torch.tensor([79]))
    assert counts.tolist() == [[1, 40]]


def pruned(recipe: str, span: tuple[int, int], *steps: int) -> list[Heads]:
    """[layer][kv head] → ordinals after a prompt with a document in it."""
    cache = KVCache(tiny("llama"), recipe)
    cache.span("document", *span)
    trail = drive.run(tiny("llama"), cache, drive.text(N + sum(steps)).calls(N, *steps))
    return [rows[0] for rows in trail.kept[-1].values()]


def votes(layer: int, window: int) -> Tensor:
    """[H, N]: group means of the last queries' attention."""
    seen = stock.prompt(N)
    return seen.grouped(seen.attention[layer][:, -window:].mean(1))


@of("plphp")
def every_head_keeps_its_own_best_of_the_span_and_all_outside() -> None:
    begin, end, window = 5, 55, 6
    inside = slice(begin, end)
    for alpha, beta, rate in ((0.0, -1.0, 0.6), (1.5, 1.0, 0.2), (1.5, -1.0, 0.4)):
        text = (
            f"plphp(only=document, window={window}, alpha={alpha}, beta={beta}, rate=0.4, step=0.2) {BOUND}"
        )
        n = round(rate * (end - begin))
        for layer, heads in enumerate(pruned(text, (begin, end), 1, 1)):
            for head, scores in zip(heads, votes(layer, window), strict=True):
                kept_inside = [t for t in head if begin <= t < end]
                assert [t for t in head if t not in kept_inside] == [*range(begin), *range(end, N + 2)]
                assert kept_inside == sorted((scores[inside].topk(n).indices + begin).tolist())


@of("plphp")
def layers_keep_one_of_three_rates_by_their_attention() -> None:
    begin, end, window = 5, 55, 6
    gammas = []
    for layer in range(LAYERS):
        outside = torch.ones(N, dtype=torch.bool)
        outside[begin:end] = False
        gammas.append(1 - float(votes(layer, window)[:, outside].sum(-1).mean()))
    ranked = sorted(gammas)
    alpha, beta = (ranked[2] + ranked[1]) / 2, (ranked[1] + ranked[0]) / 2
    text = f"plphp(only=document, window={window}, alpha={alpha:.6f}, beta={beta:.6f}) {BOUND}"
    found = [len(heads[0]) - (N - end + begin) for heads in pruned(text, (begin, end))]
    want = {ranked[0]: 5, ranked[1]: 20, ranked[2]: 35}
    assert found == [want[gamma] for gamma in gammas]
    even = N / (end - begin)
    text = text.replace(f"{alpha:.6f}", f"{alpha * even:.6f}").replace(f"{beta:.6f}", f"{beta * even:.6f}")
    normed = pruned(text.replace(") @", ", gamma_norm=true) @"), (begin, end))
    assert [len(heads[0]) - (N - end + begin) for heads in normed] == found
    scores, span = Scores(votes(0, window)[None], "mass"), torch.zeros(1, HEADS, N, dtype=torch.bool)
    span[..., begin:end] = True
    assert abs(float(attentive.gamma(scores, torch.ones_like(span), span)) - gammas[0]) < 1e-5


@of("plphp")
def with_one_rate_and_no_name_it_is_a_window_of_queries() -> None:
    for window, rate in ((6, 0.3), (9, 0.6)):
        n = window + round(rate * (N - window))
        alone = kept(f"plphp(window={window}, rate={rate}, step=0.0) {BOUND}")
        assert alone == kept(f"at prompt: window({window}) > mean > drop(recent={window}) @ {n}tok")
        text = f"plphp(only=document, window={window}, rate={rate}, step=0.0) {BOUND}"
        assert pruned(text, (0, N - window)) == pruned(text, (0, 2 * N)) == alone
        for layer, heads in enumerate(alone):
            assert heads == best(votes(layer, window), n, recent=window)


@of("plphp")
def a_budget_that_binds_lowers_the_rate_and_spares_what_is_outside() -> None:
    text = "plphp(only=document, window=6, rate=1.0, step=0.0) @ 30tok"
    for head in itertools.chain(*pruned(text, (5, 55))):
        assert len(head) == 30 and {*range(5), *range(55, N)} <= set(head)
    assert attentive.knob(1.0, 0.0, 50, 10) == 0.2
    crowded = pruned("plphp(only=document, window=6, sinks=2) @ 15tok", (5, 20))
    assert crowded == [[[0, 1, *range(N - 13, N)]] * HEADS] * LAYERS


@of("plphp")
def what_cannot_be_meant_is_refused() -> None:
    model = tiny("llama")
    for alpha, beta in ((0.3, 0.3), (0.2, 0.4)):
        with pytest.raises(
            BadArgument, match=f"attentive: alpha={alpha} is not allowed; alpha must be above"
        ):
            KVCache(model, f"plphp(alpha={alpha}, beta={beta})")
    compose(
        Recipe.parse("plphp(alpha=0.2, beta=0.1)"),
        KVCache(model).shared.geometry,
        KVCache(model).shared.gives(),
    )
    cache = KVCache(model, "plphp(only=document) @ 40%")
    for _ in range(2):
        with pytest.raises(
            InputError, match="drops inside the span 'document' alone, and nobody has marked it"
        ):
            drive.run(model, cache, drive.text(N).calls(N))
    cache.span("document", 3, 40)
    assert len(drive.run(model, cache, drive.text(N).calls(N)).kept) == 1
