"""What one worker does: take blocks of entries until none is left, answer them, merge the heads it finishes.

Flows in    the record of `plan`: addresses, strides and sizes of queries, keys, values, answers
Flows out   out and lse, written to the addresses given
Knows not   tensors, threads. Any number of workers may share one record: blocks are dealt by an atomic
            counter, and whoever finishes the last block of a head merges that head.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numba
import numpy as np
from numba import carray, cfunc, types
from numba.extending import overload

from keyvalise.ops.fast import (
    bits,
    lanes,
    picked,
    rotary,
    scratch,
    simd,
    softmax,
    spelled,
    spelling,
    tile,
    waves,
    widened,
    worded,
)
from keyvalise.ops.fast import plan as layout
from keyvalise.ops.fast.compiled import stamp_of
from keyvalise.ops.fast.inlined import inlined, merged

LIKE = {
    "float32": np.float32,
    "bfloat16": np.uint16,
    "float16": np.int16,
    "integers": np.uint8,
    "codewords": np.int8,
}

_I32, _F32 = np.int32(0), np.float32(0.0)


@inlined
def _head(plan, i):  # type: ignore[no-untyped-def]
    """Entries of head i, where its keys, values and log-weights begin, and what picks them (0 = nothing)."""
    row, h = i // plan.n_heads, i % plan.n_heads
    if plan.offsets:
        offsets = carray(bits.point(_I32, plan.offsets), (plan.n_lists + 1,))
        begin = min(max(np.int64(0), np.int64(offsets[i])), plan.n_entries)
        n = min(np.int64(offsets[i + 1]), plan.n_entries) - begin
        if plan.index:
            return n, plan.k, plan.v, plan.logw, plan.index + 4 * begin
        k = plan.k + plan.itemsize * begin * plan.k_entry
        return n, k, plan.v + plan.itemsize * begin * plan.v_entry, plan.logw + 4 * begin, np.int64(0)
    n = plan.n_entries
    if plan.lengths:
        n = min(n, np.int64(carray(bits.point(_I32, plan.lengths), (row + 1,))[row]))
    k = plan.k + plan.itemsize * (row * plan.k_row + h * plan.k_head)
    v = plan.v + plan.itemsize * (row * plan.v_row + h * plan.v_head)
    return n, k, v, plan.logw + 4 * (row * plan.logw_row + h * plan.logw_head), np.int64(0)


@inlined
def _limits(plan, i, n, limits):  # type: ignore[no-untyped-def]
    """How many entries each query of head i sees; returns the most."""
    row, h = i // plan.n_heads, i % plan.n_heads
    most = np.int64(0)
    for s in range(plan.n_queries):
        limit = n
        if plan.visible:
            at = plan.visible + 4 * (row * plan.visible_row + h * plan.visible_head)
            limit = min(n, np.int64(carray(bits.point(_I32, at), (plan.n_queries,))[s]))
        most = max(most, limit)
        for g in range(plan.group):
            limits[g * plan.n_queries + s] = limit
    return most


@inlined
def _n_blocks(plan, n):  # type: ignore[no-untyped-def]
    """Blocks of a head of n entries; an empty head has one, so that somebody writes its answer."""
    return max(np.int64(1), (n + plan.block - 1) // plan.block)


@inlined
def _merge(plan, i, n_blocks, address, pitch):  # type: ignore[no-untyped-def]
    """Write out and lse of head i from its parts, which begin at `address`, `pitch` numbers a row."""
    n_rows, dim = plan.group * plan.n_queries, plan.value_dim
    parts = carray(bits.point(_F32, address), (n_blocks, n_rows, pitch))
    out = carray(bits.point(_F32, plan.out), (i + 1, n_rows, dim))
    lse = carray(bits.point(_F32, plan.lse), (i + 1, n_rows))
    for r in range(n_rows):
        top = softmax.NOTHING
        for block in range(n_blocks):
            top = max(top, parts[block, r, dim])
        anchor = softmax.ZERO if top == softmax.NOTHING else top
        total = softmax.ZERO
        softmax.fill_(out[i, r], softmax.ZERO, dim)
        for block in range(n_blocks):
            part = parts[block, r]
            share = softmax.exp(part[dim] - anchor) if n_blocks > 1 else softmax.ONE
            total += share * part[dim + 1]
            softmax.add_(out[i, r], share, part, dim)
        if total != softmax.ZERO:
            softmax.fade_(out[i, r], softmax.ONE / total, dim)
        lse[i, r] = anchor + np.float32(math.log(total))


def _read(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer a block of a run, as its entries are stored."""
    raise NotImplementedError("compiled code alone comes here")


@overload(_read, inline="always")
def _reader(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    def of_integers(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
        spelled.read(plan, run, limits, x, seen, part)

    def of_singles(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
        if plan.index:
            picked.read(like, plan, run, limits, x, seen, part)
        else:
            tile.read(like, plan, run, limits, x, seen, part)

    def of_halves(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
        if plan.index:
            picked.read(like, plan, run, limits, x, seen, part)
        elif x.shape[0] >= widened.MANY:
            widened.read(like, plan, run, limits, x, seen, part)
        else:
            tile.read(like, plan, run, limits, x, seen, part)

    def of_codewords(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
        worded.read(plan, run, limits, x, seen, part)

    found = {types.uint8: of_integers, types.int8: of_codewords, types.float32: of_singles}
    return found.get(like, of_halves)


@merged
def _work(like, plan, claimed):  # type: ignore[no-untyped-def]
    """Take blocks until none is left; `claimed`: address of the counters, blocks taken, then parts done."""
    n_rows, dim = plan.group * plan.n_queries, plan.value_dim
    x, own = scratch.rows(n_rows, tile.TILE), scratch.rows(n_rows, dim + 2)
    pitch = own.shape[1]
    limits, seen = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
    i, first, known, most = np.int64(0), np.int64(0), np.int64(-1), np.int64(0)
    n, k, v, w, index = _head(plan, i)
    n_blocks = _n_blocks(plan, n)
    while True:
        block = bits.claim(claimed)
        while block >= first + n_blocks:
            first += n_blocks
            i += 1
            if i == plan.n_lists:
                return
            n, k, v, w, index = _head(plan, i)
            n_blocks = _n_blocks(plan, n)
        if known != i:
            most, known = _limits(plan, i, n, limits), i
        begin = (block - first) * plan.block
        parts = plan.parts + 4 * first * own.size
        part = own
        if n_blocks > 1:
            part = carray(bits.point(_F32, parts + 4 * (block - first) * own.size), (n_rows, pitch))
        for r in range(n_rows):
            softmax.fill_(part[r], softmax.ZERO, dim + 2)
            part[r, dim] = softmax.NOTHING
        run = (plan.q + 4 * i * n_rows * plan.key_dim, k, v, w, index, begin, min(most, begin + plan.block))
        _read(like, plan, run, limits, x, seen, part)  # type: ignore[no-untyped-call]
        if n_blocks == 1:
            _merge(plan, i, n_blocks, own.ctypes.data, pitch)
        elif bits.claim(claimed + 8 * (i + 1)) == n_blocks - 1:
            _merge(plan, i, n_blocks, parts, pitch)


def build(kind: str) -> Any:
    """The worker for entries stored as `kind`, a C function of the address of a record."""
    like = LIKE[kind](0)
    parts = (simd, spelling, scratch, softmax, tile, picked, spelled, worded, rotary, waves, widened)
    stamp = stamp_of(bits, lanes, *parts, layout)
    told = record()
    size = told.itemsize

    def work(plan):  # type: ignore[no-untyped-def]
        _ = stamp
        _work(like, carray(plan, 1)[0], bits.number(plan) + size)

    return compiled(work, kind, types.void(types.CPointer(numba.from_dtype(told))))


def record() -> Any:
    """The record of `plan` as numpy and the compiler know it."""
    kinds = [np.int64] * len(layout.WHOLE) + [np.float32] * len(layout.SCALARS)
    names = [*layout.WHOLE, *layout.SCALARS]
    return np.dtype({"names": names, "formats": kinds, "itemsize": layout.LAYOUT.size})


def compiled(work: Any, kind: str, signature: Any) -> Any:
    """`work` as a C function, kept on disk where that is possible: each kind in a place of its own, or two
    processes that compile two kinds at once could mix them up.
    """
    work.__qualname__ = kind
    try:
        return cfunc(signature, cache=True, error_model="numpy")(work)
    except (RuntimeError, OSError, EOFError) as flaw:
        warnings.warn(
            f"compiled attention kernels cannot be kept on disk, so every process compiles them anew "
            f"({flaw}); set NUMBA_CACHE_DIR to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        return cfunc(signature, error_model="numpy")(work)
