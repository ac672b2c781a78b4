"""What compiled code needs beyond numba: addresses as pointers, an atomic counter, powers of two by bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def point(ctx, like, address):  # type: ignore[no-untyped-def]
    """The int64 `address` as a pointer to numbers of the type of `like`."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return b.inttoptr(args[1], context.get_value_type(signature.return_type))

    return types.CPointer(like)(like, types.int64), emit  # type: ignore[attr-defined]


@intrinsic
def number(ctx, pointer):  # type: ignore[no-untyped-def]
    """A pointer as an int64."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return b.ptrtoint(args[0], _I64)

    return types.int64(pointer), emit


@intrinsic
def copy(ctx, to, start, n_bytes):  # type: ignore[no-untyped-def]
    """Copy the bytes from address `start` on to address `to`; they do not overlap."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        byte = ir.IntType(8).as_pointer()
        ends = [b.inttoptr(address, byte) for address in args[:2]]
        cgutils.raw_memcpy(b, *ends, count=args[2], itemsize=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def claim(ctx, address):  # type: ignore[no-untyped-def]
    """Add one to the int64 at `address` and return what it was; workers see each other's earlier stores."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return b.atomic_rmw("add", b.inttoptr(args[0], _I64.as_pointer()), ir.Constant(_I64, 1), "acq_rel")

    return types.int64(types.int64), emit


@intrinsic
def power(ctx, x):  # type: ignore[no-untyped-def]
    """2ⁿ for the float32 x = 1.5·2²³ + n, whose low bits are n."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        biased = b.add(b.bitcast(args[0], _I32), ir.Constant(_I32, 127))
        return b.bitcast(b.shl(biased, ir.Constant(_I32, 23)), ir.FloatType())

    return types.float32(types.float32), emit


@intrinsic
def half(ctx, address):  # type: ignore[no-untyped-def]
    """The float16 at `address` as a float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        stored = b.load(b.inttoptr(args[0], ir.HalfType().as_pointer()), align=2, typ=ir.HalfType())
        return b.fpext(stored, ir.FloatType())

    return types.float32(types.int64), emit


@intrinsic
def half_bits(ctx, x):  # type: ignore[no-untyped-def]
    """The bits, as int16, of the float16 that is nearest to a float32."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return b.bitcast(b.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), emit


@intrinsic
def of_half(ctx, x):  # type: ignore[no-untyped-def]
    """The float32 of a float16 whose bits are an int16."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        return b.fpext(b.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), emit


@intrinsic
def larger(ctx, x, y):  # type: ignore[no-untyped-def]
    """The larger of two float32; anything if one is NaN. Unlike a comparison, LLVM vectorises it."""

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        kind = ir.FunctionType(args[0].type, [args[0].type] * 2)
        pick = cgutils.get_or_insert_function(b.module, kind, "llvm.maxnum.f32")
        return b.call(pick, args, fastmath=("nnan", "nsz"))

    return types.float32(types.float32, types.float32), emit
