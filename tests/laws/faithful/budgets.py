"""Relations of allocators that follow a profile: which layer and head keeps how much, and what."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise import KVCache
from keyvalise.allocate import layout
from keyvalise.ops import water
from tests.laws.faithful.table import Heads, N, best, kept, of
from tests.support import drive, profiles, stock
from tests.support.models import tiny

LAYERS, HEADS, GROUP = 3, 4, 2


def sizes(found: list[Heads]) -> list[list[int]]:
    """[layer][kv head] → how many entries."""
    return [[len(head) for head in heads] for heads in found]


def values(name: str) -> Tensor:
    """The tiny Llama's profile of this name, float64."""
    made = profiles.made(name, LAYERS, KVCache(tiny("llama")).shared.geometry)
    return next(iter(made.tensors.values())).double()


def votes(layer: int, window: int, heads: list[int] | None = None) -> Tensor:
    """[H, N] group means of the last queries' attention, or [1, N] means over some query heads."""
    seen = stock.prompt(N)
    mean = seen.attention[layer][:, -window:].mean(1)
    return seen.grouped(mean) if heads is None else mean[heads].mean(0, keepdim=True)


@of("headkv", "headkv_r2")
def a_floor_for_all_and_the_pool_by_the_profile() -> None:
    for recipe, name in (("headkv", "retrieval"), ("headkv_r2", "retrieval_reasoning")):
        for n, beta in ((25, 1.5), (25, 4.0), (20, 1.01)):
            counts = torch.tensor(sizes(kept(f"{recipe}(window=7, beta={beta}) @ {n}tok")))
            pool = int((n - 7) / beta + 1e-9)
            scores = values(name).unflatten(1, (HEADS, GROUP)).mean(-1)
            want = n - pool + scores / scores.sum() * pool * LAYERS * HEADS
            assert int(counts.sum()) == n * LAYERS * HEADS
            assert float((counts - want).abs().max()) < 1


@of("headkv", "headkv_r2")
def every_head_keeps_its_own_best_and_the_window() -> None:
    for recipe in ("headkv", "headkv_r2"):
        for layer, heads in enumerate(kept(f"{recipe}(window=9, pool=1) @ 25tok")):
            scores = votes(layer, 9)
            for h, head in enumerate(heads):
                assert [head] == best(scores[h : h + 1], len(head), recent=9)


@of("headkv")
def without_a_pool_or_with_equal_heads_it_is_uniform() -> None:
    plain = kept("at prompt: window(7) > mean > pool(7, max) > drop(recent=7) @ 25tok")
    for setting in ("beta=99.0", "temperature=0.0", "profile=even"):
        assert kept(f"headkv(window=7, {setting}) @ 25tok") == plain, setting
    assert kept("headkv(window=7) @ 25tok") != plain


@of("headkv")
def what_a_head_cannot_use_goes_to_the_others() -> None:
    counts = sizes(kept("headkv(window=7, beta=1.0, temperature=9.0) @ 50tok"))
    assert max(map(max, counts)) == N
    assert sum(map(sum, counts)) == 50 * LAYERS * HEADS
    assert kept("headkv(window=7) @ 70tok") == [[list(range(N))] * HEADS] * LAYERS


@of("compresskv")
def four_heads_vote_for_their_layer() -> None:
    ranks = values("semantic_retrieval")
    for layer, heads in enumerate(kept("compresskv(window=9, least=12) @ 25tok")):
        four = ranks[layer].topk(4).indices.tolist()
        smooth = functional.avg_pool1d(votes(layer, 9, four)[None], 5, 1, 2)[0]
        assert heads == best(smooth, len(heads[0]), recent=9) * HEADS


@of("compresskv")
def layers_keep_by_their_error_between_bounds() -> None:
    errors = values("eviction_error")
    for n, least, most in ((25, 12, 3.0), (25, 22, 3.0), (20, 8, 1.2)):
        text = f"compresskv(window=7, least={least}, most={most}) @ {n}tok"
        counts = [heads[0] for heads in sizes(kept(text))]
        assert counts == rounds(errors.tolist(), n, least, most)


def rounds(errors: list[float], mean: int, least: int, most: float) -> list[int]:
    """One token at a time, as the paper's code shares them out."""
    shares = [e / sum(errors) for e in errors]
    total, cap = mean * len(errors), int(most * mean)
    counts = [min(max(least + round(s * (total - least * len(errors))), least), cap) for s in shares]
    falling = sorted(range(len(errors)), key=lambda i: -errors[i])
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        open_ = [i for i in falling[::step] if (counts[i] < cap if step > 0 else counts[i] > least)]
        for i in open_[: abs(missing)]:
            counts[i] += step
    return counts


@of("compresskv")
def with_all_heads_and_equal_errors_it_is_snapkv_for_a_layer() -> None:
    shared = kept("at prompt: window(7) > layer(mean) > pool(5) > drop(recent=7) @ 25tok")
    assert kept("compresskv(window=7, voters=8, profile=even_error) @ 25tok") == shared
    assert kept("compresskv(window=7, voters=8, ranks=even, least=25) @ 25tok") == shared
    assert kept("compresskv(window=7) @ 70tok") == [[list(range(N))] * HEADS] * LAYERS


@of("prefixkv")
def layers_drop_by_the_profile_what_drew_least() -> None:
    seen, dropped = stock.prompt(N), values("prefix")
    for n in (25, 40):
        found = kept(f"prefixkv @ {n}tok")
        counts = torch.tensor([heads[0] for heads in sizes(found)])
        want = N - dropped / dropped.sum() * LAYERS * (N - n)
        assert int(counts.sum()) == n * LAYERS
        assert float((counts - want).abs().max()) < 1
        for layer, heads in enumerate(found):
            sums = seen.attention[layer].sum(1).mean(0)[None]
            assert heads == best(sums, len(heads[0]), sinks=1, recent=1) * HEADS


@of("prefixkv")
def equal_shares_are_uniform_and_all_is_all() -> None:
    plain = kept("at prompt: mass > layer(mean) > drop(sinks=1, recent=1) @ 30tok")
    assert kept("prefixkv(profile=even_drops) @ 30tok") == plain
    assert kept("prefixkv @ 70tok") == [[list(range(N))] * HEADS] * LAYERS


@of("prefixkv")
def the_measured_split_leaves_no_layer_worse_off() -> None:
    seen = stock.prompt(N)
    sums = torch.stack([matrix.sum(1).mean(0) for matrix in seen.attention])
    for total in (40, 90, 150):
        split = water.counts(sums, total)
        worst = float(water.retained(sums, split).min())
        assert int(split.sum()) == total
        for other in splits(total):
            assert float(water.retained(sums, other).min()) <= worst + 1e-12
    assert water.counts(sums, LAYERS * N).tolist() == [N] * LAYERS
    assert water.counts(sums[:1].expand(3, -1), 90).tolist() == [30, 30, 30]


def splits(total: int) -> Iterator[Tensor]:
    """Ways to share out a total over three layers."""
    for a, b in itertools.product(range(0, N + 1, 3), repeat=2):
        if 0 <= total - a - b <= N:
            yield torch.tensor([a, b, total - a - b])


@of("duo", "rlkv", "razor")
def the_highest_gates_keep_all_the_others_stream() -> None:
    for recipe, first, last in (("duo", 2, 5), ("rlkv", 3, 6), ("razor", 2, 6)):
        gates = values(recipe).flatten()
        for n in (20, 33, 50):
            found = list(itertools.chain(*kept(f"{recipe}(sinks={first}, recent={last}) @ {n}tok")))
            few, full = first + last, [i for i, head in enumerate(found) if len(head) == N]
            assert all(found[i] == list(range(N)) for i in full)
            stream = [*range(first), *range(N - last, N)]
            assert all(head == stream for i, head in enumerate(found) if i not in full)
            assert sorted(full) == sorted(gates.topk(len(full)).indices.tolist())
            used, allowed = sum(map(len, found)), n * len(found)
            assert used <= allowed < used + N - few, "one more full head would not fit"


@of("duo", "rlkv", "razor")
def streaming_heads_are_constant_while_full_ones_grow() -> None:
    for recipe in ("duo", "rlkv", "razor"):
        before, after = (
            list(itertools.chain(*kept(f"{recipe}(sinks=2, recent=5) @ 40%", *steps)))
            for steps in ((), (1,) * 9)
        )
        full = [i for i, head in enumerate(before) if len(head) == N]
        assert 0 < len(full) < len(before)
        for i, head in enumerate(after):
            seen = N + 9
            assert head == (list(range(seen)) if i in full else [0, 1, *range(seen - 5, seen)])


@of("duo", "rlkv", "razor")
def a_shrinking_share_makes_full_heads_stream_and_never_the_other_way() -> None:
    for recipe in ("duo", "rlkv", "razor"):
        lengths: list[list[int]] = []
        cache, text = KVCache(tiny("llama"), f"{recipe}(sinks=2, recent=5) @ 40tok"), drive.text(N + 90)
        for call in text.calls(N, *[10] * 9):
            trail = drive.run(tiny("llama"), cache, [call])
            lengths.append([len(head) for rows in trail.kept[0].values() for head in rows[0]])
        assert all(sum(one) <= 40 * LAYERS * HEADS for one in lengths)
        for old, new in itertools.pairwise(lengths):
            assert all(a > 7 or b <= 7 for a, b in zip(old, new, strict=True))
        assert lengths[0].count(N) > lengths[-1].count(N + 90)


@of("duo", "rlkv", "razor")
def what_fits_into_sinks_and_recents_is_never_dropped() -> None:
    everything = [[list(range(N + 3))] * HEADS] * LAYERS
    for recipe in ("duo(sinks=30, recent=43)", "rlkv(sinks=16, recent=64)", "razor(sinks=40, recent=40)"):
        assert kept(f"{recipe} @ 85tok", 1, 1, 1) == everything


@of("duo")
def a_share_of_full_heads_holds_whatever_the_budget() -> None:
    for full in (0.0, 0.25, 0.5):
        found = itertools.chain(*kept(f"duo(full={full}, sinks=2, recent=5) @ 99%"))
        assert sum(len(head) == N for head in found) == full * LAYERS * HEADS


@of("rlkv")
def it_is_duo_with_other_gates_and_windows() -> None:
    settings = "sinks=2, recent=5"
    assert kept(f"rlkv({settings}) @ 40%", 1) == kept(f"duo(profile=rlkv, {settings}) @ 40%", 1)
    assert kept(f"rlkv({settings}) @ 40%", 1) != kept(f"duo({settings}) @ 40%", 1)


@of("razor")
def its_budget_is_the_published_split_of_a_long_text() -> None:
    tokens, n_heads = 100_000, 32 * 8
    few = 4 + int(0.625 * 0.32 * tokens)
    found = layout.knob(n_heads, 0.32, few, tokens)
    assert few - 4 == tokens // 5
    assert abs(found.n_full / n_heads - 0.15) < 1 / n_heads
    assert 0.316 < found.share <= 0.32
