"""Vectors of LLVM: loading, spreading and adding them up; what `simd` is written in.

Flows in    a builder of LLVM's instructions; byte addresses (int64); lengths, multiples of LANES
Flows out   instructions that compile to AVX-512, AVX, SSE or NEON alike
Knows not   what is multiplied with what. `like` is a type that names the stored format: float32 itself,
            uint16 for bfloat16 bits, int16 for float16 bits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
from numba.core import cgutils, types

from keyvalise.ops.fast.legible import LANES

WIDE = 16 if llvm.get_host_cpu_features().get("avx512f") else LANES
"""Numbers that go together while so many are left: what a register of this processor holds, or LANES."""

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
STORED: dict[Any, tuple[ir.Type, int]] = {
    types.float32: (F32, 4),
    types.uint16: (ir.IntType(16), 2),
    types.int16: (ir.HalfType(), 2),
}
"""numba type that names a format → (LLVM type in memory, bytes)."""

_QUARTET = 4
"""Lanes between which shuffles are cheap."""


def floats(lanes: int) -> ir.VectorType:
    """The type of so many float32."""
    return ir.VectorType(F32, lanes)


def words(lanes: int) -> ir.VectorType:
    """The type of so many int32."""
    return ir.VectorType(I32, lanes)


def whole(kind: ir.Type, value: float, lanes: int) -> ir.Constant:
    """A constant in every lane."""
    return ir.Constant(ir.VectorType(kind, lanes), [value] * lanes)


def load(b: ir.IRBuilder, address: ir.Value, shape: ir.Type, size: int) -> ir.Value:
    """What lies at an address that is a multiple of `size`."""
    return b.load(b.inttoptr(address, shape.as_pointer()), align=size, typ=shape)


def store(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    """Write float32."""
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=4)


def at(b: ir.IRBuilder, base: ir.Value, index: ir.Value | int, size: ir.Value | int) -> ir.Value:
    """base + index · size."""
    steps, step = (ir.Constant(I64, x) if isinstance(x, int) else x for x in (index, size))
    return b.add(base, b.mul(steps, step))


def widen(b: ir.IRBuilder, address: ir.Value, like: types.Type, lanes: int) -> ir.Value:
    """Load stored numbers as float32; a bfloat16 is the upper half of a float32."""
    kind, size = STORED[like]
    raw = load(b, address, ir.VectorType(kind, lanes), size)
    if like == types.uint16:
        return b.bitcast(b.shl(b.zext(raw, words(lanes)), whole(I32, 16, lanes)), floats(lanes))
    return raw if like == types.float32 else b.fpext(raw, floats(lanes))


def spread(b: ir.IRBuilder, x: ir.Value, lanes: int) -> ir.Value:
    """x in every lane."""
    blank = ir.Constant(ir.VectorType(x.type, lanes), ir.Undefined)
    first = b.insert_element(blank, x, ir.Constant(I32, 0))
    return b.shuffle_vector(first, blank, whole(I32, 0, lanes))


def fma(b: ir.IRBuilder, x: ir.Value, y: ir.Value, more: ir.Value) -> ir.Value:
    """x·y + more, rounded once."""
    kind = ir.FunctionType(more.type, [more.type] * 3)
    name = f"llvm.fma.v{more.type.count}f32"
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), (x, y, more))


def padded(b: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """x and zeros behind it, WIDE together."""
    if x.type.count == WIDE:
        return x
    return b.shuffle_vector(x, whole(F32, 0.0, LANES), _picked(range(WIDE)))


def totals(b: ir.IRBuilder, xs: Sequence[ir.Value]) -> ir.Value:
    """The sums of the lanes of each of xs, in one vector: 1, 2, 4, … vectors of at least as many lanes."""
    lanes = xs[0].type.count
    held = [(x, [i] * lanes) for i, x in enumerate(xs)]
    unit = lanes // 2
    while unit:
        pairs = zip(held[::2], held[1::2] or held, strict=True)
        held = [_folded(b, x, y, unit) for x, y in pairs]
        unit //= 2
    [(sums, owners)] = held
    return b.shuffle_vector(sums, sums, _picked(owners.index(i) for i in range(len(xs))))


def _folded(
    b: ir.IRBuilder, x: tuple[ir.Value, list[int]], y: tuple[ir.Value, list[int]], unit: int
) -> tuple[ir.Value, list[int]]:
    """Every second run of `unit` lanes added to the one before it, those of x and y in one vector; and of
    which sum every lane is a part.
    """
    lanes = x[0].type.count
    block = lanes if unit >= _QUARTET else _QUARTET
    even = []
    for start in range(0, lanes, block):
        ours = [i for i in range(start, start + block) if i // unit % 2 == 0]
        even += [*ours, *(lanes + i for i in ours)]
    low, high = (b.shuffle_vector(x[0], y[0], _picked(i + add for i in even)) for add in (0, unit))
    owners = x[1] + y[1]
    return b.fadd(low, high), [owners[i] for i in even]


def part(b: ir.IRBuilder, x: ir.Value, begin: int, end: int) -> ir.Value:
    """Lanes begin … end − 1."""
    return b.shuffle_vector(x, x, _picked(range(begin, end)))


def every_second(b: ir.IRBuilder, x: ir.Value, begin: int) -> ir.Value:
    """Lanes begin, begin + 2, …"""
    return b.shuffle_vector(x, x, _picked(range(begin, x.type.count, 2)))


def sweep(
    b: ir.IRBuilder, n: ir.Value, step: Callable[[ir.Value, int], None], wide: ir.Value | None = None
) -> None:
    """Emit step(i, lanes) for the runs of WIDE numbers below n, or below `wide`, then for those of LANES."""
    begin = ir.Constant(I64, 0)
    for lanes, end in ((WIDE, n if wide is None else wide), (LANES, n)):
        end = b.and_(end, ir.Constant(I64, -lanes))
        with cgutils.for_range_slice(b, begin, end, ir.Constant(I64, lanes), I64) as (i, _):
            step(i, lanes)
        begin = end


def _picked(which: Any) -> ir.Constant:
    which = list(which)
    return ir.Constant(words(len(which)), which)
