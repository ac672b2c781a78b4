"""What one worker does when vectors are only compared: take blocks of them until none is left.

Flows in    the record of `plan`, of which values and all that belongs to them are missing
Flows out   products of queries and vectors, written to the address given: [lists, group, entries]
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray, types

from keyvalise.ops.fast import bits, kernel, lanes, simd, tile
from keyvalise.ops.fast import plan as layout
from keyvalise.ops.fast.compiled import stamp_of
from keyvalise.ops.fast.inlined import inlined

_F32 = np.float32(0.0)


@inlined
def _work(like, plan, claimed):  # type: ignore[no-untyped-def]
    """Take blocks until none is left; `claimed`: address of the counter of blocks taken."""
    n_blocks = (plan.n_entries + plan.block - 1) // plan.block
    step = plan.itemsize * plan.k_entry
    while True:
        item = bits.claim(claimed)
        i, begin = item // n_blocks, item % n_blocks * plan.block
        if i >= plan.n_lists:
            return
        row, h = i // plan.n_heads, i % plan.n_heads
        k = plan.k + plan.itemsize * (row * plan.k_row + h * plan.k_head)
        out = carray(
            bits.point(_F32, plan.out + 4 * i * plan.group * plan.n_entries), (plan.group, plan.n_entries)
        )
        query = plan.q + 4 * i * plan.group * plan.key_dim
        end = min(plan.n_entries, begin + plan.block)
        for start in range(begin, end, tile.TILE):
            n = min(np.int64(tile.TILE), end - start)
            tile.logits_(like, plan, query, k + start * step, step, n, out[:, start : start + n], tile.NONE)


def build(kind: str) -> Any:
    """The worker for vectors stored as `kind`, a C function of the address of a record."""
    like = kernel.LIKE[kind](0)
    stamp = stamp_of(bits, lanes, simd, tile, layout)
    record = kernel.record()

    def work(plan):  # type: ignore[no-untyped-def]
        _ = stamp
        _work(like, carray(plan, 1)[0], bits.number(plan) + size)

    size = record.itemsize
    return kernel.compiled(work, kind, types.void(types.CPointer(numba.from_dtype(record))))
