"""Relations of the systems that read little: which units a step reads, from the keys as they are stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.ops import graph
from keyvalise.store.indexed import Indexed
from keyvalise.types.data import Memory
from keyvalise.types.retrieve import STALE
from tests.laws.faithful.table import N, of
from tests.support import drive, reading
from tests.support.compare import assert_close
from tests.support.models import tiny


def steps(recipe: str, n: int = 3) -> Iterator[tuple[Tensor, Indexed]]:
    """The query [Hq, D] and what it read, in every layer and step of decoding that reads little."""
    model, cache, seen = tiny("llama"), KVCache(tiny("llama"), recipe), []

    def watch(layer: int, q: Tensor, memory: Memory) -> None:
        seen.append((q, [s for s in memory.segments if isinstance(s, Indexed)]))

    cache.shared.watch = watch
    drive.run(model, cache, drive.text(N + n).calls(N, *[1] * n))
    for q, segments in seen:
        if q.shape[2] == 1 and segments and has_chosen(segments[0]):
            yield q[0, :, 0], segments[0]


def content(segment: Indexed) -> list[list[Tensor]]:
    """[kv head][unit] → the keys [n, D] of the first row."""
    entries = segment.entries()
    ordinals, keys = entries.ordinals[0].tolist(), entries.keys()[0]
    return [
        [
            keys[head, [ordinals[head].index(one) for one in reading.entries_of(segment, 0, head, unit)]]
            for unit in units(segment)
        ]
        for head in range(segment.shape[1])
    ]


def has_chosen(segment: Indexed) -> bool:
    """Whether its choice is of the units that it has now."""
    return bool(segment.memo) and not bool(segment.memo.get(STALE, torch.tensor(False)).any())


def units(segment: Indexed) -> list[int]:
    return list(range(sum(block.n_units for block in segment.blocks)))


def chosen(segment: Indexed, asker: int, name: str = "exact") -> list[int]:
    return [unit for unit in segment.memo[name][0, asker].tolist() if unit >= 0]


def by_votes(held: list[Tensor], queries: Tensor) -> list[int]:
    """Units that hold keys [n, D], those first that the queries [G, D] of a group want most."""
    known = [unit for unit, own in enumerate(held) if len(own)]
    logits = torch.stack([held[unit].mean(0) @ queries.T / 4 for unit in known])
    order: list[int] = logits.softmax(0).sum(1).argsort(descending=True).tolist()
    return [known[i] for i in order]


@of("topk")
def the_largest_logits_of_every_query_head() -> None:
    count = 0
    for q, segment in steps("topk(read=9, sinks=2, recent=3, block=5)"):
        held = content(segment)
        for head in range(8):
            logits = [float(key @ q[head]) for key in held[head // 2]]
            best = sorted(units(segment), key=lambda unit: -logits[unit])[:9]
            assert sorted(chosen(segment, head)) == sorted(best)
            count += 1
    assert count == 3 * 3 * 8


@of("retrievalattention")
def a_search_as_wide_as_the_keys_are_many_finds_the_largest_logits() -> None:
    calls, same = drive.text(N + 3).calls(N, 1, 1, 1), "read=9, sinks=2, recent=3, block=5"
    wide = f"retrievalattention({same}, width=200, degree=4, sample=16)"
    logits = [
        drive.run(tiny("llama"), KVCache(tiny("llama"), text), calls).logits
        for text in (wide, f"topk({same})")
    ]
    for got, want in zip(*logits, strict=True):
        assert_close(got, want, "logits_fp32", what=wide)


@of("retrievalattention")
def links_are_learnt_from_the_prompts_queries() -> None:
    text = "retrievalattention(read=9, sinks=2, recent=3, block=5, degree=4, sample={}, width=9)"
    (_, learnt), *_ = steps(text.format(64))
    (_, bare), *_ = steps(text.format(0))
    assert not torch.equal(learnt.blocks[0].summaries["edges"], bare.blocks[0].summaries["edges"])
    for segment in (learnt, bare):
        for home in range(4):
            block = segment.blocks[0]
            edges = block.padded(block.summaries["edges"])[0, home]
            entry = int(block.padded(block.summaries["entry"])[0, home].int().argmax())
            assert bool(graph.reachable(graph.Graph(edges, entry)).all())


@of("quest")
def the_largest_bounds_of_every_query_head() -> None:
    found = False
    for q, segment in steps("quest(read=12, page=4, block=4)"):
        held = content(segment)
        for head in range(8):
            bounds = []
            for page in held[head // 2]:
                bound = sum(
                    max(float(q[head, c] * page[:, c].min()), float(q[head, c] * page[:, c].max()))
                    for c in range(16)
                )
                assert bound >= float((page @ q[head]).max()) - 1e-5
                bounds.append(bound)
            best = sorted(units(segment), key=lambda unit: -bounds[unit])[:3]
            assert sorted(chosen(segment, head)) == sorted(best)
            found = True
    assert found


@of("quest", "topk")
def pages_of_one_token_are_tokens() -> None:
    calls = drive.text(N + 3).calls(N, 1, 1, 1)
    logits = [
        drive.run(
            tiny("llama"), KVCache(tiny("llama"), f"{unit} > each > read(9, recent=3, block=5)"), calls
        ).logits
        for unit in ("pages(1) > box", "tokens")
    ]
    for got, want in zip(*logits, strict=True):
        assert_close(got, want, "logits_fp32", what="pages of one token")


@of("retroinfer")
def clusters_hold_every_entry_once_under_their_plain_mean() -> None:
    (_, segment), *_ = steps("retroinfer(read=9, cluster=4, segment=30, estimate=20, recent=3, block=5)")
    keys = content(segment)
    for head in range(4):
        held = [ordinal for unit in units(segment) for ordinal in reading.entries_of(segment, 0, head, unit)]
        assert sorted(held) == list(range(4, len(held) + 4))
        for block in segment.blocks[:1]:
            for unit in range(block.n_units):
                own = keys[head][unit]
                if len(own):
                    assert torch.allclose(
                        block.padded(block.summaries["centroid"])[0, head, unit], own.mean(0), atol=1e-5
                    )


@of("retroinfer")
def votes_of_the_group_decide_and_an_estimate_never_says_too_much() -> None:
    for q, segment in steps("retroinfer(read=9, cluster=4, segment=30, estimate=20, recent=3, block=5)"):
        held = content(segment)
        for head in range(4):
            sizes = [len(own) for own in held[head]]
            for own, g in itertools.product(held[head], (2 * head, 2 * head + 1)):
                if len(own):
                    said = len(own) * (own.mean(0) @ q[g] / 4).exp()
                    assert float(said) <= float((own @ q[g] / 4).exp().sum()) * (1 + 1e-5)
            order = by_votes(held[head], q[2 * head : 2 * head + 2])
            read = chosen(segment, head)
            assert read == sorted(order[: len(read)]) and sum(sizes[unit] for unit in read) <= max(
                9, sizes[order[0]]
            )
            guessed = chosen(segment, head, "estimate")
            assert guessed == sorted(order[len(read) : len(read) + len(guessed)]) and guessed


@of("sentencekv")
def the_mean_query_of_the_sentence_chooses_and_its_first_token_reads_everything() -> None:
    text = "sentencekv(window=7, read=9, most=4, sinks=2, recent=3, block=5) @ 40tok"
    ids, ended = drive.text(N + 9).ids[0].tolist(), ended_by(tiny("llama"))
    so_far: dict[int, list[Tensor]] = {layer: [] for layer in range(3)}
    model, cache, asked = tiny("llama"), KVCache(tiny("llama"), text), 0

    def watch(layer: int, q: Tensor, memory: Memory) -> None:
        nonlocal asked
        first = memory.clock[0] - q.shape[2]
        for i in range(q.shape[2]):
            so_far[layer].append(q[0, :, i])
            if q.shape[2] == 1:
                (segment,) = (s for s in memory.segments if isinstance(s, Indexed))
                asked += check(segment, torch.stack(so_far[layer]).mean(0), len(so_far[layer]))
            if ids[first + i] in ended:
                so_far[layer].clear()

    def check(segment: Indexed, mean: Tensor, length: int) -> int:
        held = content(segment)
        for head in range(4) if has_chosen(segment) else ():
            read = chosen(segment, head)
            order = by_votes(held[head], mean[2 * head : 2 * head + 2])
            assert read == sorted(order[: len(read)])
            assert (len(read) == len(order)) == (length == 1 or sum(len(key) for key in held[head]) <= 9)
        return has_chosen(segment)

    cache.shared.watch = watch
    drive.run(model, cache, drive.text(N + 9).calls(N, *[1] * 9))
    assert asked >= 9


def ended_by(model: torch.nn.Module) -> set[int]:
    """Ids of the tokens that end a sentence."""
    cache = KVCache(model, "sentencekv @ 40tok")
    table = cache.shared.fixed["classes"]["classes"]
    return {i for i, kind in enumerate(table.tolist()) if kind == 2}


@of("louiskv")
def a_choice_holds_until_the_queries_turn_elsewhere() -> None:
    logits, choices = {}, {}
    calls = drive.text(N + 12).calls(N, *[1] * 12)
    for tau in (-1.0, 0.2, 0.5, 0.8, 1.1):
        text = f"stretches(4, tau={tau}) > drift({tau}) > read(9, sinks=2, recent=3, block=50)"
        logits[tau] = drive.run(tiny("llama"), KVCache(tiny("llama"), text), calls).logits
        seen: dict[int, list[list[int]]] = {}
        for i, (_, segment) in enumerate(steps(text, 12)):
            seen.setdefault(i % 3, []).append([unit for head in range(4) for unit in chosen(segment, head)])
        choices[tau] = sum(a != b for layer in seen.values() for a, b in itertools.pairwise(layer))
    assert choices[-1.0] == 0 and choices[1.1] > 0
    assert sorted(choices.values()) == list(choices.values())
    every = "stretches(4, tau=1.1) > read(9, sinks=2, recent=3, block=50)"
    for got, want in zip(
        logits[1.1], drive.run(tiny("llama"), KVCache(tiny("llama"), every), calls).logits, strict=True
    ):
        assert_close(got, want, "logits_fp32", what="a choice at every step")


@of("headinfer")
def everything_is_read_and_nothing_else_changes() -> None:
    for text in (
        "headinfer(recent=3, block=5)",
        "heads > read(100%, sinks=0, recent=3, block=5) > disk(cache=0)",
    ):
        cache, calls = KVCache(tiny("llama"), text), drive.text(N + 3).calls(N, 1, 1, 1)
        got = drive.run(tiny("llama"), cache, calls).logits
        for mine, stock in zip(
            got, drive.run(tiny("llama"), KVCache(tiny("llama")), calls).logits, strict=True
        ):
            assert_close(mine, stock, "logits_fp32", what=text)
        # Three layers of four heads; a key and a value of 16 numbers each; what came last lies near.
        far = 3 * 4 * (N - 3) * 2 * 16 * 4
        assert cache.shared.slow.step_bytes == sum(cache.shared.slow.held.values()) == far
