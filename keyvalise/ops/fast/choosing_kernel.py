"""The loops of `choosing`: the least rank that is still read is found digit by digit, as a radix sort would.

Every list is some thread's; the loops let go of the interpreter's lock. A unit's rank and number make one
whole number that ascends from the best unit to the worst. Of every digit's values, how many entries lie in
units with it tells which of them holds the edge; only units that share it are looked at again.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast import bits, softmax
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(bits, softmax)

_DIGIT, _UNIT = 11, 31
"""Bits of a digit of the rank, the last of which has one less, and bits of a unit's number."""

_SHIFTS = (_UNIT + 21, _UNIT + 10, _UNIT)
_NOBODY = np.int64(2**63 - 1)
_SIGN, _ALL = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)


@kernel
def _keys_(ranking, sizes, keys):  # type: ignore[no-untyped-def]
    """keys [U] ascend as float32 ranks descend, NaN being best of all; equal ranks ascend by number; _NOBODY
    where there is nothing to read. Returns the first.
    """
    # Minus zero is no worse than zero.
    raw, first = (ranking + np.float32(0.0)).view(np.uint32), _NOBODY
    for i in range(keys.size):
        rank = raw[i] if raw[i] & _SIGN else _ALL ^ (raw[i] | _SIGN)
        rank = np.uint32(0) if np.isnan(ranking[i]) else rank
        is_there = (sizes[i] > 0) & (ranking[i] != -np.inf)
        keys[i] = (np.int64(rank) << _UNIT) | i if is_there else _NOBODY
        first = min(first, keys[i])
    return first


@kernel
def _digits(keys, sizes, which, shift):  # type: ignore[no-untyped-def]
    """int64 [values of a digit]: entries of the units `which` that have it."""
    room = np.zeros(1 << _DIGIT, np.int64)
    digits = (1 << (_DIGIT if shift > _UNIT else _DIGIT - 1)) - 1
    for i in which:
        room[(keys[i] >> shift) & digits] += sizes[i]
    return room


@kernel
def _edge(keys, sizes, room, most):  # type: ignore[no-untyped-def]
    """The best units with at most `most` entries are those below this key; `room` is of the first digit."""
    alike, left = np.arange(keys.size), most
    for shift in _SHIFTS:
        digit, last = 0, (1 << (_DIGIT if shift > _UNIT else _DIGIT - 1)) - 1
        if shift != _SHIFTS[0]:
            room = _digits(keys, sizes, alike, shift)
        while digit <= last and room[digit] <= left:
            left -= room[digit]
            digit += 1
        if digit > last:
            return _NOBODY
        n = 0
        for i in alike:
            alike[n] = i
            n += ((keys[i] >> shift) & last) == digit
        alike = alike[:n]
    for i in alike:
        if sizes[i] > left:
            return keys[i]
        left -= sizes[i]
    return keys[alike[-1]] + 1


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
    """Units between two edges of every list, ascending, into found [lists, amounts, units], so many as counts
    [lists, amounts] will say.
    """
    keys, size, every = np.empty(ranking.shape[1], np.int64), sizes[0], np.arange(ranking.shape[1])
    for a in range(begin, end):
        size = sizes[a]
        first = _keys_(ranking[a], size, keys)
        is_none = keys == _NOBODY
        room = _digits(keys, np.where(is_none, 0, size), every, _SHIFTS[0])
        before = np.int64(0)
        for m in range(edges.shape[1]):
            edge = _edge(keys, size, room, edges[a, m])
            if m == 0 and first != _NOBODY:
                edge = max(edge, first + 1)
            n = 0
            for i in range(keys.size):
                found[a, m, n] = i
                n += (before <= keys[i]) & (keys[i] < edge)
            counts[a, m] = n
            before = max(before, edge)
