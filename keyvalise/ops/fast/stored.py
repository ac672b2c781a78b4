"""How stored entries become vectors of float32, numbers or integers alike; `simd` multiplies them.

Flows in    where entries begin; `like`, whose type says how they are stored
Flows out   for every run of channels, one vector per entry
Knows not   what is multiplied with what
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.ir as ir
from numba.core import cgutils, types

from keyvalise.ops.fast import lanes
from keyvalise.ops.fast.lanes import I32, I64

Use = Callable[[ir.Value, list[ir.Value]], None]
"""What is done with a run of channels: where it begins among a query's numbers, and the entries' vectors."""


class Eights(NamedTuple):
    """Integers in words of 32 bits, eight words at a time. Where an entry begins lies an int64, the address
    of its codes; `table` bytes on lies that of its steps, `gap` bytes behind which are its offsets.

    n_bytes   of codes; planes: integers of a byte; bits: of an integer
    of_chunk  bytes of steps of a plane of eight words; of_byte: of one of the four bytes of each
    """

    n_bytes: int
    planes: int
    bits: int
    table: int
    gap: int
    of_chunk: int
    of_byte: int


class Sixteens(Eights):
    """As `Eights`, sixteen words at a time."""


class Form(NamedTuple):
    """width: the longest vectors. walk(b, how, starts, n, use): emit use for n channels of all entries."""

    width: int
    walk: Callable[[ir.IRBuilder, ir.Value, Sequence[ir.Value], ir.Value, Use], None]


def form(like: types.Type) -> Form:
    """How entries are stored that numba's type `like` names."""
    kind = getattr(like, "instance_class", None)
    if kind is not None:
        width = 16 if kind is Sixteens else 8
        return Form(width, _integers(width))

    def numbers(b: ir.IRBuilder, how: ir.Value, starts: Sequence[ir.Value], n: ir.Value, use: Use) -> None:
        size = lanes.STORED[like][1]

        def run(i: ir.Value, width: int) -> None:
            use(i, [lanes.widen(b, lanes.at(b, start, i, size), like, width) for start in starts])

        lanes.sweep(b, n, run)

    return Form(lanes.WIDE, numbers)


def _integers(width: int) -> Any:
    """Channels come in the order in which words hold them: byte by byte of a plane."""
    n_words, size = lanes.words(width), ir.Constant(I64, 4 * width)
    zero, one, four, eight = (ir.Constant(I64, x) for x in (0, 1, 4, 8))

    def walk(b: ir.IRBuilder, how: ir.Value, starts: Sequence[ir.Value], n: ir.Value, use: Use) -> None:
        n_bytes, planes, bits, table, gap, of_chunk, of_byte = cgutils.unpack_tuple(b, how)
        codes = [lanes.load(b, start, I64, 8) for start in starts]
        steps = [lanes.load(b, b.add(start, table), I64, 8) for start in starts]
        most = b.trunc(b.sub(b.shl(one, bits), one), I32)
        mask = lanes.spread(b, most, width)

        with cgutils.for_range_slice(b, zero, n_bytes, size, I64) as (at, i):
            word = [lanes.load(b, b.add(code, at), n_words, 1) for code in codes]
            with cgutils.for_range_slice(b, zero, planes, one, I64) as (plane, _):
                chunk = b.add(b.mul(i, planes), plane)
                where, place = b.mul(chunk, of_chunk), b.mul(chunk, size)
                with cgutils.for_range_slice(b, zero, four, one, I64) as (byte, _):
                    shift = b.add(b.mul(plane, bits), b.mul(byte, eight))
                    shifts = lanes.spread(b, b.trunc(shift, I32), width)
                    begin, found = b.add(where, b.mul(byte, of_byte)), []
                    for entry, base in zip(word, steps, strict=True):
                        level = b.sitofp(b.and_(b.lshr(entry, shifts), mask), lanes.floats(width))
                        own = b.add(base, begin)
                        step, offset = (
                            lanes.load(b, x, lanes.floats(width), 4) for x in (own, b.add(own, gap))
                        )
                        found.append(lanes.fma(b, level, step, offset))
                    use(b.add(place, b.mul(byte, ir.Constant(I64, width))), found)

    return walk
