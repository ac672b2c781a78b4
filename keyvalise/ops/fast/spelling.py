"""Codes written out as float32: integers by their steps, codewords by their names.

Flows in    byte addresses (int64) of codes, steps, books and of float32 scratch; lengths, multiples of LANES
            unless said otherwise
Flows out   float32 in scratch
Knows not   whose codes they are
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from keyvalise.ops.fast import lanes
from keyvalise.ops.fast.lanes import F32, I32, I64
from keyvalise.ops.fast.legible import LANES

_BYTE = ir.IntType(8)


def levels(is_shared: bool) -> Any:
    """An intrinsic that takes (codes, size, own, n, n_bytes, wide, width, steps, offsets, rows, to, pitch).

    Formula   to[t][c] = offsets[rows[t]][g] + steps[rows[t]][g] · code c of entry own[t], for t < n
    Codes     of 8, 4, 2 or 1 bits, n_bytes an entry: byte i holds channels i, i + n_bytes, …, the lowest bits
              first; the first `wide` bytes of an entry may go WIDE at a time
    Shared    g = c // width, the same for all that go together; otherwise every channel has its own, g = c
    Shapes    own, rows int64, `rows` and `pitch` in bytes; steps, offsets float32
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        codes, size, own, n, n_bytes, wide, width, steps, offsets, rows, to, pitch = args

        def write(i: ir.Value, count: int, size: int) -> None:
            channels = [lanes.at(b, i, plane, n_bytes) for plane in range(8 // size)]
            owners = [b.udiv(c, width) if is_shared else c for c in channels]
            with cgutils.for_range_slice(b, ir.Constant(I64, 0), n, ir.Constant(I64, 1), I64) as (t, _):
                place, row = (lanes.load(b, lanes.at(b, x, t, 8), I64, 8) for x in (own, rows))
                code, line = b.add(lanes.at(b, codes, place, n_bytes), i), lanes.at(b, to, t, pitch)
                word = b.zext(lanes.load(b, code, ir.VectorType(_BYTE, count), 1), lanes.words(count))
                for plane, (c, g) in enumerate(zip(channels, owners, strict=True)):
                    level = b.sitofp(_field(b, word, plane, size), lanes.floats(count))
                    places = (lanes.at(b, b.add(x, row), g, 4) for x in (steps, offsets))
                    step, offset = (_scale(b, at, count, is_shared) for at in places)
                    lanes.store(b, lanes.fma(b, level, step, offset), lanes.at(b, line, c, 4))

        for known in (8, 4, 2, 1):
            with b.if_then(b.icmp_signed("==", size, ir.Constant(I64, known))):
                lanes.sweep(b, n_bytes, partial(write, size=known), wide)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, codes, size, own, n, n_bytes, wide, width, steps, offsets, rows, to, pitch):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 12), emit

    return run


def _field(b: ir.IRBuilder, word: ir.Value, plane: int, size: int) -> ir.Value:
    """Bits plane·size … of every byte."""
    if plane:
        word = b.lshr(word, lanes.whole(I32, plane * size, word.type.count))
    is_last = (plane + 1) * size == 8
    return word if is_last else b.and_(word, lanes.whole(I32, 2**size - 1, word.type.count))


def _scale(b: ir.IRBuilder, address: ir.Value, count: int, is_shared: bool) -> ir.Value:
    """One float32 in every lane, or one for each."""
    if is_shared:
        return lanes.spread(b, lanes.load(b, address, F32, 4), count)
    return lanes.load(b, address, lanes.floats(count), 4)


@intrinsic
def separate(ctx, pairs, n, evens, odds):  # type: ignore[no-untyped-def]
    """evens[i], odds[i] = pairs[2i], pairs[2i + 1] for i < n, any n: addresses of float16 and of float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        pairs, n, *sides = args

        def step(i: ir.Value, count: int) -> None:
            both = lanes.widen(b, lanes.at(b, pairs, i, 4), types.int16, 2 * count)
            for odd, side in enumerate(sides):
                lanes.store(b, lanes.every_second(b, both, odd), lanes.at(b, side, i, 4))

        lanes.sweep(b, n, step)
        rest = b.and_(n, ir.Constant(I64, -LANES))
        with cgutils.for_range_slice(b, rest, n, ir.Constant(I64, 1), I64) as (i, _):
            step(i, 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), emit


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
def widen(ctx, like, entries, step, n, dim, to, pitch):  # type: ignore[no-untyped-def]
    """to[t][d] = entries[t][d] as float32 for t < n, d < dim; from one t to the next: step, pitch bytes."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind, (entries, step, n, dim, to, pitch) = signature.args[0], args[1:]
        size = lanes.STORED[kind][1]
        with cgutils.for_range_slice(b, ir.Constant(I64, 0), n, ir.Constant(I64, 1), I64) as (t, _):
            entry, line = lanes.at(b, entries, t, step), lanes.at(b, to, t, pitch)

            def write(d: ir.Value, count: int) -> None:
                wide = lanes.widen(b, lanes.at(b, entry, d, size), kind, count)
                lanes.store(b, wide, lanes.at(b, line, d, 4))

            lanes.sweep(b, dim, write)
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 6), emit


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
