"""The loops of `choosing`: the least rank that is still read is found digit by digit, as a radix sort would.

Every list is some thread's; the loops let go of the interpreter's lock. Ranks become whole numbers that
ascend from the best to the worst; where they are equal, the earlier unit is better. Of every digit's values,
how many entries lie in units with it tells which of them holds the edge.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast import bits, softmax
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(bits, softmax)

_DIGIT = 11
_SIGN, _ALL = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)


@kernel
def _rank(x):  # type: ignore[no-untyped-def]
    """uint32 that ascends as float32 x descends; NaN is best of all."""
    out = np.empty(x.size, np.uint32)
    # Minus zero is no worse than zero.
    raw = (x + np.float32(0.0)).view(np.uint32)
    for i in range(x.size):
        if np.isnan(x[i]):
            out[i] = 0
        else:
            out[i] = raw[i] if raw[i] & _SIGN else _ALL ^ (raw[i] | _SIGN)
    return out


@kernel
def _edge(ranks, sizes, most):  # type: ignore[no-untyped-def]
    """The best units that hold at most `most` entries end before this (rank, unit)."""
    room = np.empty(1 << _DIGIT, np.int64)
    known, mask, left = np.uint32(0), np.uint32(0), np.int64(most)
    for shift in (21, 10, 0):
        width = _DIGIT if shift else 10
        room[:] = 0
        digits = np.uint32((1 << width) - 1)
        for i in range(ranks.size):
            if ranks[i] & mask == known:
                room[(ranks[i] >> np.uint32(shift)) & digits] += sizes[i]
        digit = 0
        while digit < (1 << width) and room[digit] <= left:
            left -= room[digit]
            digit += 1
        if digit == 1 << width:
            # Everything below this prefix fits; only the whole range can be left over.
            return np.int64(1) << 33, np.int64(0)
        known |= np.uint32(digit) << np.uint32(shift)
        mask |= digits << np.uint32(shift)
    for i in range(ranks.size):
        if ranks[i] == known:
            if sizes[i] > left:
                return np.int64(known), np.int64(i)
            left -= sizes[i]
    return np.int64(known) + 1, np.int64(0)


@kernel
def votes(logits, sizes, begin, end, found):  # type: ignore[no-untyped-def]
    """Σ_g softmax over the units that hold entries, into found [lists, units]; 0 where there is none."""
    n_queries, n = logits.shape[1], logits.shape[2]
    row = np.empty(n, np.float32)
    for a in range(begin, end):
        for i in range(n):
            found[a, i] = softmax.ZERO
        for g in range(n_queries):
            for i in range(n):
                row[i] = logits[a, g, i] if sizes[a, i] > 0 else softmax.NOTHING
            top = softmax.highest(row, n)
            if top != softmax.NOTHING:
                total = softmax.weigh_(row, n, top)
                softmax.add_(found[a], softmax.ONE / total, row, n)


@kernel
def within(ranking, sizes, edges, begin, end, found, counts):  # type: ignore[no-untyped-def]
    """Units between two edges of every list, ascending, into found [lists, amounts, units]."""
    for a in range(begin, end):
        ranks, size = _rank(ranking[a]), sizes[a].copy()
        best, first = np.int64(1) << 33, np.int64(-1)
        for i in range(ranks.size):
            if ranking[a, i] == -np.inf:
                size[i] = 0
            if size[i] > 0 and ranks[i] < best:
                best, first = np.int64(ranks[i]), np.int64(i)
        before_rank, before_unit = np.int64(-1), np.int64(0)
        for m in range(edges.shape[1]):
            rank, unit = _edge(ranks, size, edges[a, m])
            n = 0
            for i in range(ranks.size):
                mine = np.int64(ranks[i])
                is_past = mine > before_rank or (mine == before_rank and i >= before_unit)
                is_before = mine < rank or (mine == rank and i < unit)
                is_first = i == first
                if size[i] > 0 and ((m == 0 and is_first) or (is_past and is_before and not is_first)):
                    found[a, m, n] = i
                    n += 1
            for i in range(n, ranks.size):
                found[a, m, i] = -1
            counts[a, m] = n
            before_rank, before_unit = rank, unit
