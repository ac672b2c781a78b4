"""Relations of the systems that read little: which units a step reads, from the keys as they are stored."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.store.indexed import Indexed
from keyvalise.types.data import Memory
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
        if q.shape[2] == 1 and segments and segments[0].memo:
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


def units(segment: Indexed) -> list[int]:
    return list(range(sum(block.ends.shape[-1] for block in segment.blocks)))


def chosen(segment: Indexed, asker: int, name: str = "exact") -> list[int]:
    return [unit for unit in segment.memo[name][0, asker].tolist() if unit >= 0]


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
            for unit in range(block.ends.shape[-1]):
                own = keys[head][unit]
                if len(own):
                    assert torch.allclose(block.summaries["centroid"][0, head, unit], own.mean(0), atol=1e-5)


@of("retroinfer")
def votes_of_the_group_decide_and_an_estimate_never_says_too_much() -> None:
    for q, segment in steps("retroinfer(read=9, cluster=4, segment=30, estimate=20, recent=3, block=5)"):
        held = content(segment)
        for head in range(4):
            sizes = [len(own) for own in held[head]]
            votes = torch.zeros(len(sizes))
            for g in (2 * head, 2 * head + 1):
                logits = torch.full((len(sizes),), -torch.inf)
                for unit, own in enumerate(held[head]):
                    if len(own):
                        logits[unit] = own.mean(0) @ q[g] / 4
                        mass = (own @ q[g] / 4).exp().sum()
                        assert float(len(own) * logits[unit].exp()) <= float(mass) * (1 + 1e-5)
                votes += logits.softmax(0)
            order = sorted(
                (unit for unit in units(segment) if sizes[unit]), key=lambda unit: -float(votes[unit])
            )
            read = chosen(segment, head)
            assert read == order[: len(read)] and sum(sizes[unit] for unit in read) <= max(9, sizes[order[0]])
            guessed = chosen(segment, head, "estimate")
            assert guessed == order[len(read) : len(read) + len(guessed)] and guessed
