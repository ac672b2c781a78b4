"""The loops of `choosing`: the least rank that is still read is found digit by digit, as a radix sort would.

A unit's rank and number make one whole number that ascends from the best unit to the worst. Of every digit's
values, how many entries lie in units with it tells which of them holds the edge; only units that share it are
looked at again. Any number of workers may share one record: lists are dealt by an atomic counter.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray, types

from keyvalise.ops.fast import bits, kernel, softmax
from keyvalise.ops.fast import plan as layout
from keyvalise.ops.fast.compiled import stamp_of
from keyvalise.ops.fast.inlined import inlined, merged

_DIGIT, _UNIT = 11, 31
"""Bits of a digit of the rank, the last of which has one less, and bits of a unit's number."""

_SHIFTS = (_UNIT + 21, _UNIT + 10, _UNIT)
_NOBODY = np.int64(2**63 - 1)
_I32, _I64, _F32 = np.int32(0), np.int64(0), np.float32(0.0)
_SIGN, _ALL = np.uint32(0x80000000), np.uint32(0xFFFFFFFF)


@inlined
def _keys_(ranking, sizes, keys, held):  # type: ignore[no-untyped-def]
    """keys [U] ascend as float32 ranks descend, NaN being best of all; equal ranks ascend by number; _NOBODY
    where there is nothing to read, and 0 in held, which else has the sizes. Returns the first.
    """
    # Minus zero is no worse than zero.
    raw, first = (ranking + np.float32(0.0)).view(np.uint32), _NOBODY
    for i in range(keys.size):
        rank = raw[i] if raw[i] & _SIGN else _ALL ^ (raw[i] | _SIGN)
        rank = np.uint32(0) if np.isnan(ranking[i]) else rank
        is_there = (sizes[i] > 0) & (ranking[i] != -np.inf)
        keys[i] = (np.int64(rank) << _UNIT) | i if is_there else _NOBODY
        held[i] = sizes[i] if is_there else 0
        first = min(first, keys[i])
    return first


@inlined
def _last(shift):  # type: ignore[no-untyped-def]
    """The highest value of the digit that begins there."""
    return (1 << (_DIGIT if shift > _UNIT else _DIGIT - 1)) - 1


@inlined
def _coarse(keys, held):  # type: ignore[no-untyped-def]
    """int64 [values of the first digit]: entries of the units that have it; neighbours are added up apart, as
    they are often alike.
    """
    room = np.zeros((2, 1 << _DIGIT), np.int64)
    for i in range(keys.size):
        room[i & 1, keys[i] >> _SHIFTS[0]] += held[i]
    return room[0] + room[1]


@inlined
def _edge(keys, held, room, most, alike):  # type: ignore[no-untyped-def]
    """The best units with at most `most` entries are those below this key; `room` is of the first digit, and
    alike [U] scratch.
    """
    left, n, i = max(most, np.int64(0)), np.int64(0), np.int64(0)
    for shift in _SHIFTS:
        digit, last = 0, _last(shift)
        if shift != _SHIFTS[0]:
            room = np.zeros(last + 1, np.int64)
            for unit in alike[:n]:
                room[(keys[unit] >> shift) & last] += held[unit]
        while digit <= last and room[digit] <= left:
            left -= room[digit]
            digit += 1
        if digit > last:
            return _NOBODY
        if shift == _SHIFTS[0]:
            for unit in range(keys.size):
                alike[n] = unit
                n += keys[unit] >> shift == digit
        else:
            before, n = n, np.int64(0)
            for unit in alike[:before]:
                alike[n] = unit
                n += (keys[unit] >> shift) & last == digit
    # Together they hold more than is left.
    while held[alike[i]] <= left:
        left -= held[alike[i]]
        i += 1
    return keys[alike[i]]


@merged
def _votes(told, claimed):  # type: ignore[no-untyped-def]
    """Σ_g softmax over the units that hold entries, 0 where there is none."""
    n = told.n_units
    row = np.empty(n, np.float32)
    while True:
        a = bits.claim(claimed)
        if a >= told.n_lists:
            return
        logits = carray(bits.point(_F32, told.asked + 4 * a * told.n_each * n), (told.n_each, n))
        sizes = carray(bits.point(_I32, told.sizes + 4 * a * n), (n,))
        found = carray(bits.point(_F32, told.found + 4 * a * n), (n,))
        for g in range(told.n_each):
            for i in range(n):
                row[i] = logits[g, i] if sizes[i] > 0 else softmax.NOTHING
            top = softmax.highest(row, n)
            if top != softmax.NOTHING:
                total = softmax.weigh_(row, n, top)
                softmax.add_(found, softmax.ONE / total, row, n)


@merged
def _within(told, claimed):  # type: ignore[no-untyped-def]
    """Units between two edges of every list, ascending, so many as the counts will say."""
    n, n_edges = told.n_units, told.n_each
    keys, held, alike = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    while True:
        a = bits.claim(claimed)
        if a >= told.n_lists:
            return
        ranking = carray(bits.point(_F32, told.asked + 4 * a * n), (n,))
        sizes = carray(bits.point(_I32, told.sizes + 4 * a * n), (n,))
        edges = carray(bits.point(_I64, told.edges + 8 * a * n_edges), (n_edges,))
        found = carray(bits.point(_I64, told.found + 8 * a * n_edges * n), (n_edges, n))
        counts = carray(bits.point(_I64, told.counts + 8 * a * n_edges), (n_edges,))
        first = _keys_(ranking, sizes, keys, held)
        room, before = _coarse(keys, held), np.int64(0)
        for m in range(n_edges):
            edge = _edge(keys, held, room, edges[m], alike)
            if m == 0 and first != _NOBODY:
                edge = max(edge, first + 1)
            n_found = np.int64(0)
            for i in range(n):
                found[m, n_found] = i
                n_found += (before <= keys[i]) & (keys[i] < edge)
            counts[m] = n_found
            before = max(before, edge)


def build(kind: str) -> Any:
    """The worker that does `kind`, votes or within: a C function of the address of a record."""
    stamp = stamp_of(bits, softmax, layout)
    told = np.dtype([(name, np.int64) for name in layout.CHOOSING])
    size, does_vote = told.itemsize, kind == "votes"

    def work(plan):  # type: ignore[no-untyped-def]
        _ = stamp
        if does_vote:
            _votes(carray(plan, 1)[0], bits.number(plan) + size)
        else:
            _within(carray(plan, 1)[0], bits.number(plan) + size)

    return kernel.compiled(work, kind, types.void(types.CPointer(numba.from_dtype(told))))
