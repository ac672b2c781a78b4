"""Eight-lane arithmetic on raw addresses, emitted as LLVM vectors: compiles to AVX, SSE or NEON alike.

Flows in    byte addresses (int64) of keys, values, queries and float32 scratch; strides in bytes; lengths,
            multiples of LANES
Flows out   dot products and weighted sums in float32 scratch
Knows not   heads, blocks, softmax. `like` is a scalar whose type names the stored format: float32 itself,
            uint16 for bfloat16 bits, int16 for float16 bits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LANES = 8

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_EIGHT = ir.VectorType(_F32, LANES)
_STORED: dict[Any, tuple[ir.Type, int]] = {
    types.float32: (_F32, 4),
    types.uint16: (ir.IntType(16), 2),
    types.int16: (ir.HalfType(), 2),
}
"""numba type that names a format → (LLVM type in memory, bytes)."""


def _whole(kind: ir.Type, value: float) -> ir.Constant:
    return ir.Constant(ir.VectorType(kind, LANES), [value] * LANES)


def _load(b: ir.IRBuilder, address: ir.Value, shape: ir.Type, size: int) -> ir.Value:
    return b.load(b.inttoptr(address, shape.as_pointer()), align=size, typ=shape)


def _store(b: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    b.store(value, b.inttoptr(address, value.type.as_pointer()), align=4)


def _at(b: ir.IRBuilder, base: ir.Value, index: ir.Value | int, size: ir.Value | int) -> ir.Value:
    """base + index · size."""
    steps, step = (ir.Constant(_I64, x) if isinstance(x, int) else x for x in (index, size))
    return b.add(base, b.mul(steps, step))


def _widen(b: ir.IRBuilder, address: ir.Value, like: types.Type) -> ir.Value:
    """Load eight stored numbers as float32; a bfloat16 is the upper half of a float32."""
    kind, size = _STORED[like]
    raw = _load(b, address, ir.VectorType(kind, LANES), size)
    if like == types.uint16:
        return b.bitcast(b.shl(b.zext(raw, ir.VectorType(_I32, LANES)), _whole(_I32, 16)), _EIGHT)
    return raw if like == types.float32 else b.fpext(raw, _EIGHT)


def _call(b: ir.IRBuilder, name: str, result: ir.Type, *args: ir.Value, **how: Any) -> ir.Value:
    kind = ir.FunctionType(result, [arg.type for arg in args])
    return b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.{name}.v{LANES}f32"), args, **how)


def _totals(b: ir.IRBuilder, xs: Sequence[ir.Value]) -> list[ir.Value]:
    """The sum of the lanes of each vector, four vectors at a time."""
    if len(xs) < 4:
        zero, how = ir.Constant(_F32, -0.0), ("reassoc",)
        return [_call(b, "vector.reduce.fadd", _F32, zero, x, fastmath=how) for x in xs]
    pairs = _add_neighbours(b, _add_neighbours(b, *xs[:2]), _add_neighbours(b, *xs[2:4]))
    low, high = (b.shuffle_vector(pairs, pairs, _lanes(*range(i, i + 4))) for i in (0, 4))
    four = b.fadd(low, high)
    sums = [b.extract_element(four, ir.Constant(_I32, i)) for i in range(4)]
    return sums + (_totals(b, xs[4:]) if len(xs) > 4 else [])


def _add_neighbours(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """x0+x1, x2+x3, y0+y1, y2+y3 in the lower half, the same of lanes 4 … 7 in the upper."""
    even, odd = (0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)
    return b.fadd(b.shuffle_vector(x, y, _lanes(*even)), b.shuffle_vector(x, y, _lanes(*odd)))


def _lanes(*which: int) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I32, len(which)), list(which))


def _spread(b: ir.IRBuilder, x: ir.Value, shape: ir.Type = _EIGHT) -> ir.Value:
    """x in every lane."""
    blank = ir.Constant(shape, ir.Undefined)
    return b.shuffle_vector(b.insert_element(blank, x, ir.Constant(_I32, 0)), blank, _whole(_I32, 0))


def _sweep(b: ir.IRBuilder, n: ir.Value, step: Callable[[ir.Value], None]) -> None:
    """Emit step(i) for i = 0, LANES, 2·LANES … below n."""
    zero, stride = ir.Constant(_I64, 0), ir.Constant(_I64, LANES)
    with cgutils.for_range_slice(b, zero, n, stride, _I64) as (i, _):
        step(i)


def dots(rows: int, entries: int) -> Any:
    """An intrinsic that takes (like, q, q_stride, k, k_stride, n, scale, to, to_stride).

    Formula   to[r][e] = scale · Σ_d q[r][d] · k[e][d] for r < rows, e < entries, d < n
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        like, (q, q_stride, k, k_stride, n, scale, to, to_stride) = signature.args[0], args[1:]
        queries = [_at(b, q, r, q_stride) for r in range(rows)]
        keys = [_at(b, k, e, k_stride) for e in range(entries)]
        sums = [[cgutils.alloca_once(b, _EIGHT) for _ in keys] for _ in queries]
        for slots in sums:
            for slot in slots:
                b.store(_whole(_F32, 0.0), slot)

        def step(i: ir.Value) -> None:
            wide = [_widen(b, _at(b, key, i, _STORED[like][1]), like) for key in keys]
            for query, slots in zip(queries, sums, strict=True):
                x = _load(b, _at(b, query, i, 4), _EIGHT, 4)
                for y, slot in zip(wide, slots, strict=True):
                    b.store(_call(b, "fma", _EIGHT, x, y, b.load(slot)), slot)

        _sweep(b, n, step)
        totals = _totals(b, [b.load(slot) for slots in sums for slot in slots])
        for i, total in enumerate(totals):
            place = _at(b, _at(b, to, i // entries, to_stride), i % entries, 4)
            _store(b, b.fmul(total, scale), place)
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
        values = [_at(b, v, e, v_stride) for e in range(entries)]
        sums = [_at(b, to, r, to_stride) for r in range(rows)]
        starts = [_at(b, p, r, p_stride) for r in range(rows)]
        weights = [[_spread(b, _load(b, _at(b, at, e, 4), _F32, 4)) for e in range(entries)] for at in starts]

        def step(i: ir.Value) -> None:
            wide = [_widen(b, _at(b, value, i, _STORED[like][1]), like) for value in values]
            for total, shares in zip(sums, weights, strict=True):
                place = _at(b, total, i, 4)
                x = _load(b, place, _EIGHT, 4)
                for share, y in zip(shares, wide, strict=True):
                    x = _call(b, "fma", _EIGHT, share, y, x)
                _store(b, x, place)

        _sweep(b, n, step)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, like, p, p_stride, v, v_stride, n, to, to_stride):  # type: ignore[no-untyped-def]
        return types.void(like, *[types.int64] * 7), emit

    return run


def levels(is_shared: bool) -> Any:
    """An intrinsic that takes (codes, shift, mask, step, offset, n, to).

    Formula   to[d] = offset + step · ((codes[d] >> shift) & mask) for d < n; bytes to float32
    Shared    step and offset are addresses of one float32 for all, or of one for each d
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        codes, shift, mask, step, offset, n, to = args
        eight = ir.VectorType(_I32, LANES)
        shifts, masks = (_spread(b, b.trunc(x, _I32), eight) for x in (shift, mask))
        shared = [_spread(b, _load(b, x, _F32, 4)) for x in (step, offset)] if is_shared else None

        def write(i: ir.Value) -> None:
            raw = b.zext(_load(b, b.add(codes, i), ir.VectorType(ir.IntType(8), LANES), 1), eight)
            level = b.sitofp(b.and_(b.lshr(raw, shifts), masks), _EIGHT)
            steps, offsets = shared or [_load(b, _at(b, x, i, 4), _EIGHT, 4) for x in (step, offset)]
            _store(b, _call(b, "fma", _EIGHT, level, steps, offsets), _at(b, to, i, 4))

        _sweep(b, n, write)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, codes, shift, mask, step, offset, n, to):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 7), emit

    return run


def pieces(width: int, n_words: int) -> Any:
    """An intrinsic that takes (names, m, book, to, size), size a multiple of `width` lanes.

    Formula   to[j·size + d] = book[j][names[j]][d] for j < m, d < size; a book has n_words codewords of
              float16
    """
    stored, wide = (ir.VectorType(kind, width) for kind in (ir.HalfType(), _F32))

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        names, m, book, to, size = args
        zero, one, stride = (ir.Constant(_I64, x) for x in (0, 1, width))
        of_word, of_piece = (b.mul(size, ir.Constant(_I64, x)) for x in (2, 4))
        with cgutils.for_range_slice(b, zero, m, one, _I64) as (j, _):
            name = b.zext(b.load(b.inttoptr(b.add(names, j), ir.IntType(8).as_pointer())), _I64)
            word = _at(b, book, b.add(b.mul(j, ir.Constant(_I64, n_words)), name), of_word)
            place = _at(b, to, j, of_piece)
            with cgutils.for_range_slice(b, zero, size, stride, _I64) as (d, _):
                _store(b, b.fpext(_load(b, _at(b, word, d, 2), stored, 2), wide), _at(b, place, d, 4))
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

        def step(d: ir.Value) -> None:
            place = _at(b, to, d, 4)
            more = _widen(b, _at(b, word, d, 2), types.int16)
            _store(b, b.fadd(_load(b, place, _EIGHT, 4), more), place)

        _sweep(b, n, step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), emit


@intrinsic
def turn(ctx, low, high, cos, sin, n):  # type: ignore[no-untyped-def]
    """low[k] + i·high[k] times cos[k] + i·sin[k] for k < n, in place, of four addresses of float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        *addresses, n = args

        def step(k: ir.Value) -> None:
            places = [_at(b, address, k, 4) for address in addresses]
            x, y, c, s = (_load(b, place, _EIGHT, 4) for place in places)
            _store(b, b.fsub(b.fmul(x, c), b.fmul(y, s)), places[0])
            _store(b, b.fadd(b.fmul(y, c), b.fmul(x, s)), places[1])

        _sweep(b, n, step)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), emit


@intrinsic
def fetch(ctx, address, n_bytes):  # type: ignore[no-untyped-def]
    """Ask for the cache lines of address … address + n_bytes − 1; harmless wherever that points."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        ask = cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = (ir.Constant(_I32, x) for x in (0, 2, 1))
        start, line = ir.Constant(_I64, 0), ir.Constant(_I64, 64)
        with cgutils.for_range_slice(b, start, args[1], line, _I64) as (i, _):
            b.call(ask, [b.inttoptr(b.add(args[0], i), pointer), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit
