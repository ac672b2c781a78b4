"""Relations of pages that are known by what was attended to, and of how many of them a layer reads."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import keyvalise
from keyvalise import KVCache
from keyvalise.host.model import rope_of
from keyvalise.ops import rope
from keyvalise.store.indexed import Indexed
from keyvalise.types.data import Memory
from tests.laws.faithful.reading import chosen, content, units
from tests.laws.faithful.table import N, of
from tests.support import drive, reading, stock
from tests.support.compare import assert_close
from tests.support.models import tiny

SAME = "page=4, landmarks=2, sinks=2, recent=3, block=5"


def landmark(segment: Indexed, unit: int) -> Tensor:
    """[H, D]"""
    for block in segment.blocks:
        if unit < block.n_units:
            return block.padded(block.summaries["landmark"])[0, :, unit]
        unit -= block.n_units
    raise IndexError(unit)


@of("actqkv")
def pages_are_known_by_the_keys_that_were_attended_to_most_when_they_were_cut() -> None:
    model, n, late = tiny("llama"), N + 12, 0
    seen, cache = stock.prompt(n), KVCache(model, f"actqkv(read=100%, {SAME})")
    drive.run(model, cache, drive.text(n).calls(N, *[1] * 12))
    for layer, held in cache.shared.layers.items():
        assert held.memory is not None
        (segment,) = (one for one in held.memory.segments if isinstance(one, Indexed))
        for unit in units(segment):
            own = reading.entries_of(segment, 0, 0, unit)
            # What lay near when the prompt ended; then five tokens at a time, three of which come later.
            clock = N if own[0] < N - 3 else N + 5 * ((own[0] - N + 3) // 5 + 1)
            mass = seen.grouped(seen.attention[layer])[:, :clock].sum(1)
            late += clock > N
            for head in range(4):
                best = sorted(own, key=lambda one: -mass[head, one])[:2]
                want = seen.keys[layer][head, best].mean(0)
                assert_close(landmark(segment, unit)[head], want, "score_fp32", what=f"page {unit}")
    assert late >= 3 * 2 * 2


@functools.cache
def sharpened() -> Any:
    """The tiny Llama with queries that grow from layer to layer: what the last wants, it wants of few."""
    keyvalise.detach(tiny("llama"))
    model = copy.deepcopy(tiny("llama"))
    with torch.no_grad():
        for i, layer in enumerate(model.model.layers):
            layer.self_attn.q_proj.weight *= (1, 8, 40)[i]
    return model


def probe(queries: Tensor, n: int) -> Tensor:
    """[Hq, D] of all queries so far [Hq, S, D], rotated by their places."""
    model, places = sharpened(), torch.arange(queries.shape[1])
    turning = rope_of(model, KVCache(model).shared.geometry, 0)
    assert turning is not None
    plain = rope.unrotate(queries, places, turning).double()
    mean, variance = plain.mean(1, keepdim=True), plain.var(1, keepdim=True, unbiased=False)
    far = (plain - mean).square() / (variance + variance.mean() / 100)
    weights = far.mean((0, 2))[-n:]
    led = (plain[:, -n:] * weights[:, None]).sum(1) / weights.sum()
    return rope.apply(led.float(), places[-1], turning)


@of("actqkv")
def votes_of_the_probe_rank_the_pages_and_their_evenness_says_how_many_are_read() -> None:
    for n in (1, 3):
        counts = [read_by(n, layer) for layer in range(3)]
        assert min(counts[0]) > max(counts[1]) and min(counts[1]) > max(counts[2]) >= 10


def read_by(n: int, layer: int) -> list[int]:
    """How many entries a layer read in every step; they were the right ones."""
    model, counts = sharpened(), []
    cache = KVCache(model, f"actqkv(read=20, window={n}, {SAME})")
    so_far: list[Tensor] = []
    entropies: list[float] = []

    def watch(here: int, q: Tensor, memory: Memory) -> None:
        if here != layer:
            return
        so_far.extend(q[0].unbind(1))
        segments = [s for s in memory.segments if isinstance(s, Indexed)]
        if q.shape[2] == 1 and segments:
            counts.append(check(segments[0], probe(torch.stack(so_far, 1), n)))

    def check(segment: Indexed, q: Tensor) -> int:
        marks = torch.stack([landmark(segment, unit) for unit in units(segment)], 1).repeat_interleave(2, 0)
        shares = (
            q.norm(dim=-1)[:, None] * functional.cosine_similarity(q[:, None], marks, dim=-1) / 4
        ).softmax(-1)
        entropies.append(float(torch.special.entr(shares).sum(-1).mean()) / math.log(shares.shape[1]))
        most = round(20 * min(max(2 * sum(entropies) / len(entropies), 0.5), 2))
        sizes = [len(own) for own in content(segment)[0]]
        order, total = shares.sum(0).argsort(descending=True).tolist(), 0
        read = chosen(segment, 0)
        assert read == sorted(order[: len(read)])
        total = sum(sizes[unit] for unit in read)
        assert total <= most < total + sizes[order[len(read)]]
        return most

    cache.shared.watch = watch
    drive.run(model, cache, drive.text(N + 4).calls(N, *[1] * 4))
    assert len(counts) == 4
    return counts
