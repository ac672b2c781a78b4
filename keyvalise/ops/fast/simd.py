"""Arithmetic on raw addresses, as many lanes at a time as the processor has.

Flows in    byte addresses (int64) of keys, values, queries and float32 scratch; strides in bytes; lengths,
            multiples of LANES
Flows out   dot products and weighted sums in float32 scratch
Knows not   heads, blocks, softmax. `like` is a scalar whose type names the stored format, as in `lanes`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from keyvalise.ops.fast import lanes
from keyvalise.ops.fast.lanes import F32, I32, I64


def dots(rows: int, entries: int) -> Any:
    """An intrinsic that takes (like, q, q_stride, k, k_stride, n, scale, to, to_stride).

    Formula   to[r][e] = scale · Σ_d q[r][d] · k[e][d] for r < rows, e < entries, d < n
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        like, (q, q_stride, k, k_stride, n, scale, to, to_stride) = signature.args[0], args[1:]
        queries = [lanes.at(b, q, r, q_stride) for r in range(rows)]
        keys = [lanes.at(b, k, e, k_stride) for e in range(entries)]
        sums = [[cgutils.alloca_once(b, lanes.floats(lanes.WIDE)) for _ in keys] for _ in queries]
        for slots in sums:
            for slot in slots:
                b.store(lanes.whole(F32, 0.0, lanes.WIDE), slot)

        def step(i: ir.Value, width: int) -> None:
            wide = [
                lanes.padded(b, lanes.widen(b, lanes.at(b, key, i, lanes.STORED[like][1]), like, width))
                for key in keys
            ]
            for query, slots in zip(queries, sums, strict=True):
                x = lanes.padded(b, lanes.load(b, lanes.at(b, query, i, 4), lanes.floats(width), 4))
                for y, slot in zip(wide, slots, strict=True):
                    b.store(lanes.fma(b, x, y, b.load(slot)), slot)

        lanes.sweep(b, n, step)
        totals = lanes.totals(b, [b.load(slot) for slots in sums for slot in slots])
        scaled = b.fmul(totals, lanes.spread(b, scale, rows * entries))
        for r in range(rows):
            lanes.store(
                b, lanes.part(b, scaled, r * entries, (r + 1) * entries), lanes.at(b, to, r, to_stride)
            )
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, like, q, q_stride, k, k_stride, n, scale, to, to_stride):  # type: ignore[no-untyped-def]
        whole = types.int64
        return types.void(like, whole, whole, whole, whole, whole, types.float32, whole, whole), emit

    return run


def blend(rows: int, entries: int) -> Any:
    """An intrinsic that takes (like, p, p_stride, v, v_stride, n, to, to_stride).

    Formula   to[r][d] += Σ_e p[r][e] · v[e][d] for r < rows, e < entries, d < n
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        like, (p, p_stride, v, v_stride, n, to, to_stride) = signature.args[0], args[1:]
        values = [lanes.at(b, v, e, v_stride) for e in range(entries)]
        sums = [lanes.at(b, to, r, to_stride) for r in range(rows)]
        starts = [lanes.at(b, p, r, p_stride) for r in range(rows)]
        weights = [[lanes.load(b, lanes.at(b, at, e, 4), F32, 4) for e in range(entries)] for at in starts]

        def step(i: ir.Value, width: int) -> None:
            wide = [
                lanes.widen(b, lanes.at(b, value, i, lanes.STORED[like][1]), like, width) for value in values
            ]
            for total, shares in zip(sums, weights, strict=True):
                place = lanes.at(b, total, i, 4)
                x = lanes.load(b, place, lanes.floats(width), 4)
                for share, y in zip(shares, wide, strict=True):
                    x = lanes.fma(b, lanes.spread(b, share, width), y, x)
                lanes.store(b, x, place)

        lanes.sweep(b, n, step)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, like, p, p_stride, v, v_stride, n, to, to_stride):  # type: ignore[no-untyped-def]
        return types.void(like, *[types.int64] * 7), emit

    return run


@intrinsic
def turn(ctx, low, high, cos, sin, n):  # type: ignore[no-untyped-def]
    """low[k] + i·high[k] times cos[k] + i·sin[k] for k < n, in place, of four addresses of float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        *addresses, n = args

        def step(k: ir.Value, width: int) -> None:
            places = [lanes.at(b, address, k, 4) for address in addresses]
            x, y, c, s = (lanes.load(b, place, lanes.floats(width), 4) for place in places)
            lanes.store(b, b.fsub(b.fmul(x, c), b.fmul(y, s)), places[0])
            lanes.store(b, b.fadd(b.fmul(y, c), b.fmul(x, s)), places[1])

        lanes.sweep(b, n, step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def fetch(ctx, address, n_bytes):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of address … address + n_bytes − 1; harmless wherever that points."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, I32, I32, I32])
        ask = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = (ir.Constant(I32, x) for x in (0, 2, 1))
        start, line = ir.Constant(I64, 0), ir.Constant(I64, 64)
        with cgutils.for_range_slice(b, start, args[1], line, I64) as (i, _):
            b.call(ask, [b.inttoptr(b.add(args[0], i), pointer), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit
