"""The loops of `nearest`: a tile of vectors meets one block of centres after the other.

Flows in    vectors; centres in blocks and what is taken from their products, or one centre
Flows out   `assign`: the centre of every vector with the largest product, and that; `approach`: the squared
            distance to the nearest of those centres that have been met, which are met one by one
Knows not   rounds, means. Any number of workers may share one record: items are dealt by an atomic counter.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray, types

from keyvalise.ops.fast import bits, compare, kernel, lanes, softmax
from keyvalise.ops.fast import plan as layout
from keyvalise.ops.fast.compiled import stamp_of
from keyvalise.ops.fast.inlined import inlined, merged

_TILE, _ROWS, _WIDE = 64, 4, lanes.WIDE
_RUN = 2048
"""Vectors of an item of `approach`."""

_I64, _F32 = np.int64(0), np.float32(0.0)
_compare_4, _compare_1 = compare.compare(_ROWS), compare.compare(1)


@inlined
def _meet_(told, p, x, n, best, whose):  # type: ignore[no-untyped-def]
    """n vectors and all centres of set p."""
    step = 4 * told.dim
    at, owner = best.ctypes.data, whose.ctypes.data
    for block in range(told.n_blocks):
        place, first = p * told.n_blocks + block, compare.BLOCK * block
        centres = told.centres + 4 * compare.BLOCK * told.dim * place
        less = told.less + 4 * compare.BLOCK * place
        whole = n // _ROWS * _ROWS
        for t in range(0, whole, _ROWS):
            to = 4 * _WIDE * t
            _compare_4(x + step * t, step, centres, less, told.dim, first, at + to, owner + to)
        for t in range(whole, n):
            to = 4 * _WIDE * t
            _compare_1(x + step * t, step, centres, less, told.dim, first, at + to, owner + to)


@merged
def _assign(told, claimed):  # type: ignore[no-untyped-def]
    """Each item is a tile of the vectors of a set."""
    n_tiles = (told.n + _TILE - 1) // _TILE
    best, whose = np.empty((_TILE, _WIDE), np.float32), np.empty((_TILE, _WIDE), np.int32)
    while True:
        item = bits.claim(claimed)
        p, begin = item // n_tiles, item % n_tiles * _TILE
        if p >= told.n_sets:
            return
        n = min(np.int64(_TILE), told.n - begin)
        x = told.x + 4 * (p * told.n + begin) * told.dim
        best[:], whose[:] = softmax.NOTHING, 0
        _meet_(told, p, x, n, best, whose)
        own = carray(bits.point(_I64, told.own + 8 * (p * told.n + begin)), (n,))
        found = carray(bits.point(_F32, told.found + 4 * (p * told.n + begin)), (n,))
        for t in range(n):
            top, owner = best[t, 0], whose[t, 0]
            for i in range(1, _WIDE):
                # Of two that are as near, the first.
                if best[t, i] > top or (best[t, i] == top and whose[t, i] < owner):
                    top, owner = best[t, i], whose[t, i]
            own[t], found[t] = owner, top


@inlined(fastmath=softmax.REORDER)
def _add_(total, x, c, n):  # type: ignore[no-untyped-def]
    """total += (x − c)²."""
    for t in range(n):
        total[t] += (x[t] - c) * (x[t] - c)


@merged
def _approach(told, claimed):  # type: ignore[no-untyped-def]
    """Each item is a run of the vectors of a set, which lie [dim, n]; centres [sets, dim]."""
    n_runs = (told.n + _RUN - 1) // _RUN
    room = np.empty(_RUN, np.float32)
    while True:
        item = bits.claim(claimed)
        p, begin = item // n_runs, item % n_runs * _RUN
        if p >= told.n_sets:
            return
        n = min(np.int64(_RUN), told.n - begin)
        centre = carray(bits.point(_F32, told.centres + 4 * p * told.dim), (told.dim,))
        softmax.fill_(room, softmax.ZERO, n)
        for d in range(told.dim):
            x = carray(bits.point(_F32, told.x + 4 * ((p * told.dim + d) * told.n + begin)), (n,))
            _add_(room, x, centre[d], n)
        found = carray(bits.point(_F32, told.found + 4 * (p * told.n + begin)), (n,))
        for t in range(n):
            found[t] = room[t] if room[t] < found[t] else found[t]


def build(kind: str) -> Any:
    """The worker that does `kind`, assign or approach: a C function of the address of a record."""
    stamp = stamp_of(bits, compare, lanes, softmax, layout)
    told = np.dtype([(name, np.int64) for name in layout.COMPARING])
    size, does_assign = told.itemsize, kind == "assign"

    def work(plan):  # type: ignore[no-untyped-def]
        _ = stamp
        if does_assign:
            _assign(carray(plan, 1)[0], bits.number(plan) + size)
        else:
            _approach(carray(plan, 1)[0], bits.number(plan) + size)

    return kernel.compiled(work, kind, types.void(types.CPointer(numba.from_dtype(told))))
