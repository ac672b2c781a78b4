"""Relations of the systems that merge what they drop."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise import KVCache
from keyvalise.ops import hashing
from keyvalise.store.roll import Roll
from keyvalise.types.data import Entries, Env
from tests.laws.faithful.table import N, best, check, kept, of
from tests.support import drive, stock
from tests.support.compare import assert_close, assert_same
from tests.support.models import tiny


def held(recipe: str, *steps: int, seed: int = 0) -> list[Entries]:
    """The entries of every layer after a prompt of N tokens and these calls."""
    cache = KVCache(tiny("llama"), recipe, seed=seed)
    drive.run(tiny("llama"), cache, drive.text(N + sum(steps)).calls(N, *steps))
    return [Roll.of(layer.memory).entries for layer in cache.shared.layers.values() if layer.memory]


def global_local(layer: int, window: int) -> Tensor:
    """The larger of all attention and of the last queries', at equal means: [H, N]."""
    seen = stock.prompt(N)
    total, local = (seen.grouped(seen.attention[layer][:, first:]).sum(1) for first in (0, N - window))
    return torch.maximum(total, local * total.mean(-1, keepdim=True) / local.mean(-1, keepdim=True))


def unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)


@of("ems")
def the_better_of_both_scores_stays() -> None:
    check("ems(window=7)", lambda i: global_local(i, 7), 20)


@of("ems", "h2o")
def a_window_of_the_whole_prompt_ranks_like_accumulated_mass_alone() -> None:
    assert kept(f"ems(window={N}) @ 20tok") == kept("at prompt: mass > drop @ 20tok")


@of("ems")
def losers_lend_value_and_weight_to_the_keeper_most_like_them() -> None:
    seen, zero, n_merged = stock.prompt(N), 0.1, 0
    for layer, entries in enumerate(held(f"ems(window=7, zero={zero}) @ 20tok")):
        keys, values, s = seen.keys[layer], seen.values[layer], global_local(layer, 7)
        assert entries.logw is not None
        alike = [(unit(x) @ unit(x).mT).clamp(min=0) for x in (keys, values)]
        for head, stays in enumerate(best(s, 20)):
            losers = [t for t in range(N) if t not in stays]
            table = (alike[0] * alike[1])[head]
            goal = {t: stays[int(table[t, stays].argmax())] for t in losers}
            goal = {t: c for t, c in goal.items() if table[t, c] > zero}
            n_merged += len(goal)
            for slot, c in enumerate(stays):
                group = [c, *(t for t in losers if goal.get(t) == c)]
                w = s[head, group]
                want = (w[:, None] * values[head, group]).sum(0) / w.sum()
                assert_close(entries.values()[0, head, slot], want, "attention_fp32")
                assert_close(entries.keys()[0, head, slot], keys[head, c], "attention_fp32")
                grown = (w.sum() / s[head, c]).log()
                assert float((entries.logw[0, head, slot] - grown).abs()) < 1e-4
    assert 50 < n_merged < 3 * 4 * (N - 20)


@of("ems")
def a_zero_class_that_nothing_beats_is_eviction() -> None:
    for a, b in zip(held("ems(zero=2) @ 20tok"), held("ems > drop @ 20tok"), strict=True):
        assert_same(a.keys(), b.keys())
        assert_same(a.values(), b.values())
        assert a.logw is not None and not a.logw.any() and b.logw is None


@of("ems")
def without_a_zero_class_every_token_is_somewhere() -> None:
    for entries in held("ems(zero=-1, weight=count) @ 20tok"):
        assert entries.logw is not None
        assert_close(entries.logw.exp().sum(-1), torch.full((1, 4), float(N)), "attention_fp32")


@of("elastic")
def the_most_attended_tokens_and_both_ends_one_set_per_layer() -> None:
    seen = stock.prompt(N)

    def score(layer: int) -> Tensor:
        return seen.attention[layer].sum(1).mean(0).expand(4, -1)

    check("elastic", score, 20, sinks=1, recent=1)


@of("elastic")
def keepers_hold_the_means_of_contiguous_runs() -> None:
    seen = stock.prompt(N)
    for layer, entries in enumerate(held("elastic @ 20tok")):
        stays = entries.ordinals[0, 0].tolist()
        goal = [min(stays, key=lambda c: (abs(c - t), -c)) for t in range(N)]
        assert goal == sorted(goal) and set(goal) == set(stays)
        for slot, c in enumerate(stays):
            run = [t for t in range(N) if goal[t] == c]
            for got, want in ((entries.keys(), seen.keys), (entries.values(), seen.values)):
                assert_close(got[0, :, slot], want[layer][:, run].mean(1), "attention_fp32")


def one_token(*steps: int) -> list[drive.Call]:
    """One token again and again, all at place zero: equal entries in every layer."""
    ids = torch.full((1, N + sum(steps)), 7)
    calls = drive.Text(ids, torch.ones_like(ids)).calls(N, *steps)
    return [drive.Call(call.ids, call.mask, torch.zeros_like(call.positions)) for call in calls]


@of("elastic")
def of_equal_entries_counted_nothing_is_lost() -> None:
    model, calls = tiny("llama"), one_token(1)
    want = drive.run(model, KVCache(model), calls).logits[1]
    recipe = "at prompt: mass > layer > merge(nearest, weight=count) @ 20tok"
    got = drive.run(model, KVCache(model, recipe), calls)
    assert len(got.kept[0][1][0][0]) == 20
    assert_close(got.logits[1], want, "logits_fp32")
    for entries in held("elastic(weight=count) @ 20tok"):
        assert entries.logw is not None
        assert_close(entries.logw.exp().sum(-1), torch.full((1, 4), float(N)), "attention_fp32")


@of("streaming")
def one_entry_that_stands_for_equal_losers_is_all_of_them() -> None:
    """With `compensate` in place of `drop`, while the window slides on."""
    model, calls = tiny("llama"), one_token(*[1] * 6)
    want = drive.run(model, KVCache(model), calls).logits
    got = drive.run(model, KVCache(model, "streaming > compensate(sinks=4) @ 20tok"), calls)
    assert len(got.kept[-1][1][0][0]) == 20
    for a, b in zip(got.logits[1:], want[1:], strict=True):
        assert_close(a, b, "logits_fp32")
    other = drive.text(N + 1).calls(N, 1)
    dropped = drive.run(model, KVCache(model, "streaming @ 20tok"), other).logits[1]
    remembered = drive.run(model, KVCache(model, "streaming > compensate(sinks=4) @ 20tok"), other).logits[1]
    assert not torch.equal(dropped, remembered)


@of("elastic")
def while_decoding_one_slot_is_where_entries_leave() -> None:
    slot, n = -6, 20
    before = held(f"elastic(slot={slot}) @ {n}tok")
    edge = n + slot
    for steps in (1, 4, 9):
        for old, new in zip(before, held(f"elastic(slot={slot}) @ {n}tok", *[1] * steps), strict=True):
            assert_same(new.keys()[:, :, :edge], old.keys()[:, :, :edge])
            was, now = old.ordinals[0, 0].tolist(), new.ordinals[0, 0].tolist()
            assert now == [*was[:edge], *[*was[edge:], *range(N, N + steps)][steps:]]


@of("elastic")
def the_cache_grows_at_the_rate_of_its_budget() -> None:
    counts = [len(entries.ordinals[0, 0]) for entries in held("elastic @ 25%", *[1] * 40)[:1]]
    counts += [len(kept("elastic @ 25%")[0][0])]
    assert abs((counts[0] - counts[1]) - 0.25 * 40) <= 1.5


@of("cam")
def a_prompt_is_kept_as_h2o_keeps_it() -> None:
    seen = stock.prompt(N)
    check("cam", lambda i: seen.grouped(seen.attention[i]).sum(1), 20, recent=10)


@of("cam", "h2o")
def where_nobody_is_drawn_nothing_is_merged() -> None:
    original = hashing.per_entry

    def never(env: Env, part: str, entries: Entries) -> Tensor:
        return torch.full(entries.live.shape, torch.inf, dtype=torch.float64)

    try:
        hashing.per_entry = never
        mine = held("cam @ 20tok", *[1] * 5)
    finally:
        hashing.per_entry = original
    for a, b in zip(mine, held("h2o @ 20tok", *[1] * 5), strict=True):
        assert_same(a.values(), b.values())
        assert torch.equal(a.ordinals, b.ordinals)


@of("cam")
def a_loser_hands_its_value_to_the_next_keepers_and_keys_stay() -> None:
    """The first step, in which the first layer sees what it would see without any of it."""
    n_moved = 0
    for seed in range(4):
        old, new = held("cam(m=6) @ 20tok")[0], held("cam(m=6) @ 20tok", 1, seed=seed)[0]
        bare = held("h2o @ 20tok", 1)[0]
        assert torch.equal(new.ordinals, bare.ordinals)
        assert_same(new.keys(), bare.keys())
        for head in range(4):
            (gone,) = set(old.ordinals[0, head].tolist()) - set(new.ordinals[0, head].tolist())
            value = old.values()[0, head, old.ordinals[0, head].tolist().index(gone)]
            heirs = [i for i, o in enumerate(new.ordinals[0, head].tolist()) if o > gone][:6]
            moved = new.values()[0, head] - bare.values()[0, head]
            n_moved += bool(moved.any())
            want = torch.zeros_like(moved)
            if moved.any():
                want[heirs] = value / len(heirs)
            assert float((moved - want).abs().max()) < 1e-6
    assert 0 < n_moved < 16


@of("cam")
def restored_mass_is_the_option_and_costs_log_weights() -> None:
    plain, weighed = (held(f"cam(weight={w}) @ 20tok", *[1] * 5)[0] for w in ("none", "mass"))
    assert plain.logw is None and weighed.logw is not None and (weighed.logw >= 0).all()
    assert (weighed.logw > 0).any()


@of("kvcrush", "ems", "elastic", "cam", "balancekv")
def with_room_for_everything_nothing_is_touched() -> None:
    for recipe in ("kvcrush", "ems", "elastic", "cam", "balancekv"):
        assert kept(f"{recipe} @ {N}tok") == [[list(range(N))] * 4] * 3
        for layer, entries in enumerate(held(f"{recipe} @ {N}tok")):
            assert entries.logw is None
            assert_close(entries.values()[0], stock.prompt(N).values[layer], "attention_fp32")
