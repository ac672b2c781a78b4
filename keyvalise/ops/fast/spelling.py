"""Codes written out as float32: integers by their steps, codewords by their names.

Flows in    byte addresses (int64) of codes, steps, books and of float32 scratch; lengths, multiples of LANES
            unless said otherwise
Flows out   float32 in scratch
Knows not   whose codes they are
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from keyvalise.ops.fast import lanes
from keyvalise.ops.fast.lanes import F32, I32, I64


def levels(is_shared: bool) -> Any:
    """An intrinsic that takes (codes, shift, mask, step, offset, n, to).

    Formula   to[d] = offset + step · ((codes[d] >> shift) & mask) for d < n; bytes to float32
    Shared    step and offset are addresses of one float32 for all, or of one for each d
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        codes, shift, mask, step, offset, n, to = args
        shift, mask = (b.trunc(x, I32) for x in (shift, mask))
        shared = [lanes.load(b, x, F32, 4) for x in (step, offset)] if is_shared else None

        def write(i: ir.Value, width: int) -> None:
            raw = lanes.load(b, b.add(codes, i), ir.VectorType(ir.IntType(8), width), 1)
            moved = b.lshr(b.zext(raw, lanes.words(width)), lanes.spread(b, shift, width))
            level = b.sitofp(b.and_(moved, lanes.spread(b, mask, width)), lanes.floats(width))
            if shared:
                steps, offsets = (lanes.spread(b, x, width) for x in shared)
            else:
                steps, offsets = (
                    lanes.load(b, lanes.at(b, x, i, 4), lanes.floats(width), 4) for x in (step, offset)
                )
            lanes.store(b, lanes.fma(b, level, steps, offsets), lanes.at(b, to, i, 4))

        lanes.sweep(b, n, write)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, codes, shift, mask, step, offset, n, to):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 7), emit

    return run


def pieces(width: int, n_words: int) -> Any:
    """An intrinsic that takes (names, m, book, to, size), size a multiple of `width`.

    Formula   to[j·size + d] = book[j][names[j]][d] for j < m, d < size; a book has n_words codewords of
              float16
    """
    stored, wide = (ir.VectorType(kind, width) for kind in (ir.HalfType(), F32))

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        names, m, book, to, size = args
        zero, one, stride = (ir.Constant(I64, x) for x in (0, 1, width))
        of_word, of_piece = (b.mul(size, ir.Constant(I64, x)) for x in (2, 4))
        with cgutils.for_range_slice(b, zero, m, one, I64) as (j, _):
            name = b.zext(b.load(b.inttoptr(b.add(names, j), ir.IntType(8).as_pointer())), I64)
            word = lanes.at(b, book, b.add(b.mul(j, ir.Constant(I64, n_words)), name), of_word)
            place = lanes.at(b, to, j, of_piece)
            with cgutils.for_range_slice(b, zero, size, stride, I64) as (d, _):
                lanes.store(
                    b,
                    b.fpext(lanes.load(b, lanes.at(b, word, d, 2), stored, 2), wide),
                    lanes.at(b, place, d, 4),
                )
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, names, m, book, to, size):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 5), emit

    return run


@intrinsic
def grow(ctx, word, n, to):  # type: ignore[no-untyped-def]
    """to[d] += word[d] for d < n: addresses of float16 and of float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        word, n, to = args

        def step(d: ir.Value, width: int) -> None:
            place = lanes.at(b, to, d, 4)
            more = lanes.widen(b, lanes.at(b, word, d, 2), types.int16, width)
            lanes.store(b, b.fadd(lanes.load(b, place, lanes.floats(width), 4), more), place)

        lanes.sweep(b, n, step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit
