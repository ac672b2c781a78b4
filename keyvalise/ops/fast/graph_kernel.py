"""The loops of `graph`: sums in LANES partial sums, nothing fused, so that they round as numpy's do.

Every candidate is one whole number, its closeness above its id, so that a comparison also settles ties. The
loops let go of the interpreter's lock; all that they write belongs to one query or key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from keyvalise.ops.fast import simd
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(simd)

LANES = 16

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_WIDE = ir.VectorType(_F32, LANES)
_U = np.uint64
_ONE, _HALF, _LOW, _SIX, _WORD = _U(1), _U(32), _U(0xFFFFFFFF), _U(6), _U(63)
_SIGN = _U(0x80000000)


@intrinsic
def _dot(ctx, a, b, n):  # type: ignore[no-untyped-def]
    """Σ a·b of n numbers at two addresses, n a multiple of LANES: lane by lane, then the lanes by halves."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
        total = cgutils.alloca_once(b, _WIDE)
        b.store(ir.Constant(_WIDE, [0.0] * LANES), total)
        zero, step, four = (ir.Constant(_I64, x) for x in (0, LANES, 4))
        with cgutils.for_range_slice(b, zero, args[2], step, _I64) as (i, _):
            places = (b.inttoptr(b.add(at, b.mul(i, four)), _WIDE.as_pointer()) for at in args[:2])
            x, y = (b.load(place, align=4, typ=_WIDE) for place in places)
            b.store(b.fadd(b.load(total), b.fmul(x, y)), total)
        sums, width = b.load(total), LANES
        while width > 1:
            width //= 2
            low, high = (
                b.shuffle_vector(sums, sums, ir.Constant(ir.VectorType(_I32, width), list(lanes)))
                for lanes in (range(width), range(width, 2 * width))
            )
            sums = b.fadd(low, high)
        return b.extract_element(sums, ir.Constant(_I32, 0))

    return types.float32(types.int64, types.int64, types.int64), emit


@intrinsic
def _bits(ctx, x):  # type: ignore[no-untyped-def]
    """The bits of a float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> ir.Value:
        return b.zext(b.bitcast(args[0], _I32), _I64)

    return types.uint64(types.float32), emit


@kernel
def _at(x, i):  # type: ignore[no-untyped-def]
    """Address of row i."""
    return np.int64(x.ctypes.data) + i * np.int64(x.strides[0])


@kernel
def _mark(value, i):  # type: ignore[no-untyped-def]
    """Ascends with value, among equals with i; the lowest bit is free."""
    bits = _bits(value)
    bits = ~bits & _LOW if bits & _SIGN else bits | _SIGN
    return bits << _HALF | _U(i) << _ONE


@kernel
def _insert(queue, n, mark):  # type: ignore[no-untyped-def]
    """Puts a mark in a queue of n, which descends; its place, or the queue's length where it is too low."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if queue[middle] > mark:
            low = middle + 1
        else:
            high = middle
    for i in range(min(n, len(queue) - 1), low, -1):
        queue[i] = queue[i - 1]
    if low < len(queue):
        queue[low] = mark
    return low


@kernel
def _walk(keys, edges, entry, query, queue, seen, visited):  # type: ignore[no-untyped-def]
    """(found, expanded, compared): best-first from the entry; `query` is an address.

    queue     marks of the best, descending;  visited: the keys expanded, in order, where it has room
    """
    dim, size = keys.shape[1], 4 * keys.shape[1]
    fresh = np.empty(edges.shape[1], np.int32)
    seen[:] = 0
    n, n_visited, n_compared, place = 0, 0, 0, 0
    fresh[0], n_fresh = entry, 1
    seen[_U(entry) >> _SIX] |= _ONE << (_U(entry) & _WORD)
    while True:
        first = len(queue)
        for j in range(n_fresh):
            mark = _mark(_dot(query, _at(keys, fresh[j]), dim), fresh[j])
            if n < len(queue) or mark > queue[n - 1]:
                first = min(first, _insert(queue, n, mark))
                n = min(n + 1, len(queue))
        n_compared += n_fresh
        place = min(place, first)
        while place < n and queue[place] & _ONE:
            place += 1
        if place == n:
            return n, n_visited, n_compared
        node = np.int64((queue[place] & _LOW) >> _ONE)
        queue[place] |= _ONE
        if n_visited < len(visited):
            visited[n_visited] = node
            n_visited += 1
        n_fresh = 0
        for j in range(edges.shape[1]):
            other = edges[node, j]
            if 0 <= other < len(keys):
                word, bit = _U(other) >> _SIX, _ONE << (_U(other) & _WORD)
                if not seen[word] & bit:
                    seen[word] |= bit
                    fresh[n_fresh] = other
                    n_fresh += 1
                    simd.fetch(_at(keys, other), size)


@kernel
def _prune(keys, node, candidates, row):  # type: ignore[no-untyped-def]
    """Fill the row with those candidates that no kept one hides from the node, then with the nearest."""
    dim, own = keys.shape[1], _at(keys, node)
    marks = np.empty(len(candidates), np.uint64)
    for i in range(len(candidates)):
        marks[i] = _mark(_dot(own, _at(keys, candidates[i]), dim), candidates[i])
    marks.sort()
    row[:] = -1
    n, n_hidden, before = 0, 0, _U(0)
    hidden = np.empty(len(row), np.int32)
    for mark in marks[::-1]:
        if n == len(row):
            break
        if mark == before:
            continue
        before, other = mark, np.int32((mark & _LOW) >> _ONE)
        at = _at(keys, other)
        value, is_hidden = _dot(own, at, dim), False
        for j in range(n):
            if _dot(_at(keys, row[j]), at, dim) >= value:
                is_hidden = True
                break
        if not is_hidden:
            row[n] = other
            n += 1
        elif n_hidden < len(hidden):
            hidden[n_hidden] = other
            n_hidden += 1
    for j in range(min(n_hidden, len(row) - n)):
        row[n + j] = hidden[j]


@kernel
def search(keys, edges, entry, queries, beam, begin, end, ids, compared):  # type: ignore[no-untyped-def]
    """Fill ids and compared of queries begin … end − 1."""
    queue, seen = np.empty(beam, np.uint64), np.empty((len(keys) + 63) // 64, np.uint64)
    visited = np.empty(0, np.int32)
    for i in range(begin, end):
        n, _, compared[i] = _walk(keys, edges, entry, _at(queries, i), queue, seen, visited)
        for j in range(min(n, ids.shape[1])):
            ids[i, j] = np.int32((queue[j] & _LOW) >> _ONE)


@kernel
def link(keys, edges, entry, nodes, beam, begin, end, rows):  # type: ignore[no-untyped-def]
    """Fill the rows of nodes begin … end − 1."""
    queue, seen = np.empty(beam, np.uint64), np.empty((len(keys) + 63) // 64, np.uint64)
    degree = rows.shape[1]
    visited = np.empty(len(keys) + degree, np.int32)
    for i in range(begin, end):
        node = nodes[i]
        _, n_visited, _ = _walk(keys, edges, entry, _at(keys, node), queue, seen, visited[: len(keys)])
        for j in range(degree, edges.shape[1]):
            if edges[node, j] >= 0:
                visited[n_visited] = edges[node, j]
                n_visited += 1
        n = 0
        for j in range(n_visited):
            is_known = visited[j] == node
            for c in range(degree):
                is_known |= edges[node, c] == visited[j]
            if not is_known:
                visited[n] = visited[j]
                n += 1
        _prune(keys, node, visited[:n], rows[i])


@kernel
def prune(keys, nodes, starts, candidates, begin, end, rows):  # type: ignore[no-untyped-def]
    """Fill the rows of nodes begin … end − 1 from candidates[starts[i] : starts[i + 1]]."""
    for i in range(begin, end):
        _prune(keys, nodes[i], candidates[starts[i] : starts[i + 1]], rows[i])
