"""Vectors beside many centres at once, as many lanes at a time as the processor has.

Flows in    addresses (int64) of vectors and of a block of centres, laid out [dim, BLOCK]; strides in bytes
Flows out   for every lane the best so far, and whose it is, in scratch
Knows not   sets, threads, what is made of it
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from keyvalise.ops.fast import lanes
from keyvalise.ops.fast.lanes import F32, I32, I64, WIDE
from keyvalise.ops.fast.legible import LANES

GROUPS = 4 if WIDE > LANES else 2
"""Registers of centres that go together: four vectors' products with them fill half the registers."""

BLOCK = GROUPS * WIDE
"""Centres of a block."""


def compare(rows: int) -> Any:
    """An intrinsic that takes (x, x_stride, centres, less, n, first, best, whose).

    Formula   z = Σ_d x[r][d]·centres[d][c] − less[c] for r < rows, d < n;  where z > best[r][c mod WIDE],
              that becomes z, and whose[r][c mod WIDE] = first + c
    Flows     best float32 and whose int32 [rows, WIDE]; NaN is never better
    """

    def emit(context: Any, b: ir.IRBuilder, signature: Any, args: Sequence[ir.Value]) -> Any:
        x, x_stride, centres, less, n, first, best, whose = args
        kind, steps = lanes.floats(WIDE), [4 * WIDE * g for g in range(GROUPS)]
        vectors = [lanes.at(b, x, r, x_stride) for r in range(rows)]
        sums = [[cgutils.alloca_once(b, kind) for _ in steps] for _ in vectors]
        for slots in sums:
            for slot, step in zip(slots, steps, strict=True):
                b.store(b.fneg(lanes.load(b, lanes.at(b, less, step, 1), kind, 4)), slot)
        ends = ir.Constant(I64, 0), n, ir.Constant(I64, 1)
        with cgutils.for_range_slice(b, *ends, I64) as (d, _):
            row = lanes.at(b, centres, d, 4 * BLOCK)
            columns = [lanes.load(b, lanes.at(b, row, step, 1), kind, 4) for step in steps]
            for vector, slots in zip(vectors, sums, strict=True):
                number = lanes.spread(b, lanes.load(b, lanes.at(b, vector, d, 4), F32, 4), WIDE)
                for column, slot in zip(columns, slots, strict=True):
                    b.store(lanes.fma(b, number, column, b.load(slot)), slot)
        start = lanes.spread(b, b.trunc(first, I32), WIDE)
        for r, slots in enumerate(sums):
            of_best, of_whose = (lanes.at(b, base, 4 * WIDE * r, 1) for base in (best, whose))
            top, owner = lanes.load(b, of_best, kind, 4), lanes.load(b, of_whose, lanes.words(WIDE), 4)
            for g, slot in enumerate(slots):
                numbers = ir.Constant(lanes.words(WIDE), list(range(g * WIDE, (g + 1) * WIDE)))
                z = b.load(slot)
                is_better = b.fcmp_ordered(">", z, top)
                top, owner = b.select(is_better, z, top), b.select(is_better, b.add(start, numbers), owner)
            lanes.store(b, top, of_best)
            lanes.store(b, owner, of_whose)
        return context.get_dummy_value()

    @intrinsic
    def run(ctx, x, x_stride, centres, less, n, first, best, whose):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 8), emit

    return run
