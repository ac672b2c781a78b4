"""The loops of `mass`: what lies between logits and what entries are paid.

Flows in    logits as torch multiplied them, changed in place: capped, weighed, hidden
Flows out   `norms`: the largest logit of every query and the sum of exponentials beside it; `columns`: sums
            of probabilities over queries, added to what is there
Knows not   keys, means. Any number of workers may share one record: items are dealt by an atomic counter.
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

_TILE = 1024
"""Entries of an item of columns: their sums and a row of logits stay in the first-level cache."""

_I32, _F32, _HIGHEST = np.int32(0), np.float32(0.0), np.float32(88.0)


@inlined
def _row(told, i, r, begin, n):  # type: ignore[no-untyped-def]
    """Logits begin … begin + n − 1 of query r of list i, capped and weighed."""
    row = carray(bits.point(_F32, told.x + 4 * ((i * told.n_rows + r) * told.n_entries + begin)), (n,))
    if told.softcap != 0:
        softmax.cap_(row, n, np.float32(told.softcap))
    if told.logw:
        softmax.shift_(row, n, carray(bits.point(_F32, told.logw + 4 * (i * told.n_all + begin)), (n,)))
    return row


@inlined
def _newest(told, i, r):  # type: ignore[no-untyped-def]
    """The ordinal of a query."""
    at = told.newest + 4 * (i * told.n_queries + r % told.n_queries)
    return carray(bits.point(_I32, at), (1,))[0]


@inlined
def _hide_(row, came, own, n):  # type: ignore[no-untyped-def]
    """Nothing where a query does not see, whatever lies there."""
    for t in range(n):
        row[t] = row[t] if came[t] <= own else softmax.NOTHING


@inlined(fastmath=softmax.REORDER)
def _pay_(out, row, came, own, shift, n):  # type: ignore[no-untyped-def]
    """out += exp(row − shift) where a query sees."""
    for t in range(n):
        x = row[t] - shift
        paid = softmax.exp(_HIGHEST if x > _HIGHEST else x)
        out[t] += paid if came[t] <= own else softmax.ZERO


@inlined(fastmath=softmax.REORDER)
def _sum(row, top, n):  # type: ignore[no-untyped-def]
    """Σ exp(row − top)."""
    total = softmax.ZERO
    for t in range(n):
        total += softmax.exp(row[t] - top)
    return total


@merged
def _norms(told, claimed):  # type: ignore[no-untyped-def]
    """Each item is a query."""
    n = told.n_entries
    while True:
        item = bits.claim(claimed)
        i, r = item // told.n_rows, item % told.n_rows
        if i >= told.n_lists:
            return
        row, own = _row(told, i, r, np.int64(0), n), _newest(told, i, r)
        _hide_(row, carray(bits.point(_I32, told.came + 4 * i * told.n_all), (n,)), own, n)
        norm = carray(bits.point(_F32, told.norms + 8 * item), (2,))
        top = bits.larger(softmax.highest(row, n), norm[0])
        least = softmax.ZERO if top == softmax.NOTHING else top
        norm[1] = norm[1] * softmax.exp(norm[0] - least) + _sum(row, least, n)
        norm[0] = top


@merged
def _columns(told, claimed):  # type: ignore[no-untyped-def]
    """Each item is a tile of the entries of a list."""
    n_tiles, each = (told.n_entries + _TILE - 1) // _TILE, told.n_rows // told.per
    while True:
        item = bits.claim(claimed)
        i, begin = item // n_tiles, item % n_tiles * _TILE
        if i >= told.n_lists:
            return
        n = min(np.int64(_TILE), told.n_entries - begin)
        came = carray(bits.point(_I32, told.came + 4 * (i * told.n_all + begin)), (n,))
        shifts = carray(bits.point(_F32, told.shift + 4 * i * told.n_rows), (told.n_rows,))
        for r in range(each * told.per):
            own, place = _newest(told, i, r), (i * told.per + r // each) * told.n_all + begin
            # A query that reads nothing has a log-sum-exp of −inf.
            if own >= 0 and shifts[r] != softmax.NOTHING:
                out = carray(bits.point(_F32, told.out + 4 * place), (n,))
                _pay_(out, _row(told, i, r, begin, n), came, own, shifts[r], n)


def build(kind: str) -> Any:
    """The worker that does `kind`, norms or columns: a C function of the address of a record."""
    stamp = stamp_of(bits, softmax, layout)
    fields = [(name, np.int64) for name in (*layout.WEIGHING, *layout.WEIGHED)]
    told = np.dtype([*fields, ("softcap", np.float64)])
    size, are_norms = told.itemsize, kind == "norms"

    def work(plan):  # type: ignore[no-untyped-def]
        _ = stamp
        if are_norms:
            _norms(carray(plan, 1)[0], bits.number(plan) + size)
        else:
            _columns(carray(plan, 1)[0], bits.number(plan) + size)

    return kernel.compiled(work, kind, types.void(types.CPointer(numba.from_dtype(told))))
