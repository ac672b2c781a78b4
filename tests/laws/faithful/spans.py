"""Relations of ltri: which spans are cut, by the queries and keys that a model shows, and which are read."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from keyvalise import KVCache
from keyvalise.store.indexed import Indexed
from keyvalise.types.data import Memory
from tests.laws.faithful.reading import by_votes, chosen, content, steps, units
from tests.laws.faithful.table import N, of
from tests.support import drive, reading
from tests.support.compare import assert_close
from tests.support.models import tiny

WINDOW, THETA, LONGEST, SINKS, RECENT, BLOCK = 7, 1.05, 5, 2, 3, 5
TEXT = (
    f"ltri(window={WINDOW}, theta={THETA}, longest={LONGEST}, read=9, sinks={SINKS}, "
    f"recent={RECENT}, block={BLOCK})"
)


def spans(q: Tensor, k: Tensor, begin: int) -> list[int]:
    """The first ordinals of the units of a window, whose queries are [8, w, D] and keys [4, w, D]."""
    n, first = q.shape[1], max(SINKS - begin, 0)
    dense = torch.zeros(n, n, dtype=torch.float64)
    for i in range(first, n):
        logits = torch.stack([k[head // 2, first : i + 1] @ q[head, i] / 4 for head in range(8)])
        dense[i, first : i + 1] = logits.double().softmax(-1).mean(0) * (i + 1 - first) - THETA
    found = []
    for x, y in itertools.combinations_with_replacement(range(first, n), 2):
        if 2 <= y + 1 - x <= LONGEST and (score := float(dense[x : y + 1, x : y + 1].sum())) > 0:
            found.append((score, x, y))
    edges, taken = {0}, set[int]()
    for _, x, y in sorted(found, reverse=True):
        if not taken & {*range(x, y + 1)}:
            taken |= {*range(x, y + 1)}
            edges |= {x, y + 1}
    return [begin + edge for edge in sorted(edges) if edge < n]


def expected(q: Tensor, k: Tensor, begin: int, end: int, seen: int) -> list[list[int]]:
    """Units of the ordinals begin … end − 1 that are cut when `seen` tokens have come."""
    edges = set()
    for start in range(0, seen, WINDOW):
        window, is_whole = slice(start, start + WINDOW), start + WINDOW <= seen
        edges |= {*(spans(q[:, window], k[:, window], start) if is_whole else [start])}
    cut: list[list[int]] = []
    for ordinal in range(begin, end):
        if not cut or ordinal in edges or len(cut[-1]) == LONGEST:
            cut.append([])
        cut[-1].append(ordinal)
    return cut


@of("ltri")
def triangles_of_attention_are_what_is_read_together() -> None:
    model, cache = tiny("llama"), KVCache(tiny("llama"), TEXT)
    queries: dict[int, list[Tensor]] = {layer: [] for layer in range(3)}
    held: dict[int, int] = dict.fromkeys(range(3), SINKS)
    want: dict[int, list[list[int]]] = {layer: [] for layer in range(3)}
    sizes: list[int] = []

    def watch(layer: int, q: Tensor, memory: Memory) -> None:
        queries[layer].append(q[0])
        (segment,) = (s for s in memory.segments if isinstance(s, Indexed))
        every = memory.clock[0]
        if (n := int(segment.lengths[0, 0])) == held[layer]:
            return
        keys = torch.cat([one.entries().keys()[0] for one in memory.segments], 1)[:, :every]
        want[layer] += expected(torch.cat(queries[layer], 1), keys, held[layer], n, every)
        held[layer] = n
        for head in range(4):
            got = [reading.entries_of(segment, 0, head, unit) for unit in units(segment)]
            assert got == want[layer], f"layer {layer}, head {head}, {every} tokens"
        sizes.extend(map(len, want[layer]))

    cache.shared.watch = watch
    drive.run(model, cache, drive.text(N + 13).calls(N, *[1] * 13))
    assert set(held.values()) == {N + 10 - RECENT} and {1, 2, 3, 4, 5} == {*sizes}


@of("ltri")
def votes_of_the_group_choose_spans_until_enough_is_read() -> None:
    count = 0
    for q, segment in steps(TEXT):
        held = content(segment)
        for head in range(4):
            order, read = by_votes(held[head], q[2 * head : 2 * head + 2]), chosen(segment, head)
            sizes = [len(held[head][unit]) for unit in order]
            n = max(1, sum(total <= 9 for total in itertools.accumulate(sizes)))
            assert read == sorted(order[:n])
            count += 1
    assert count == 3 * 3 * 4


@of("ltri")
def everything_read_is_full_attention_and_one_token_a_span_is_the_best_tokens_of_a_group() -> None:
    calls = drive.text(N + 3).calls(N, 1, 1, 1)

    def logits(text: str) -> list[Tensor]:
        return drive.run(tiny("llama"), KVCache(tiny("llama"), text), calls).logits

    same = f"read(9, sinks={SINKS}, recent={RECENT}, block={BLOCK})"
    pairs = (
        (TEXT.replace("read=9", "read=100%"), "full"),
        (f"spans(7, most=1, sinks={SINKS}) > {same}", f"tokens > {same}"),
    )
    for mine, other in pairs:
        for got, want in zip(logits(mine), logits(other), strict=True):
            assert_close(got, want, "logits_fp32", what=mine)
