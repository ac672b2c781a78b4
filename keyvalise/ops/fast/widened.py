"""As `tile`, for many queries: entries of 16 bits are made float32 once for all of them, a tile at a time.

Flows in    queries, addresses of a run's keys, values, log-weights
Flows out   `part`, as in `tile`
Knows not   rows, heads, where runs begin. Scratch is one tile of keys or values, whatever the run's length.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, scratch, softmax, spelling, tile
from keyvalise.ops.fast.inlined import merged

MANY = 16
"""Queries that are worth it; fewer widen what they multiply."""

_F32 = np.float32(0.0)


@merged
def read(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, –, begin, end); row r sees those before limits[r]."""
    q, k, v, w, _, begin, end = run
    k_step, v_step = plan.itemsize * plan.k_entry, plan.itemsize * plan.v_entry
    k_size, v_size = plan.itemsize * plan.key_dim, plan.itemsize * plan.value_dim
    room = scratch.rows(tile.TILE, max(plan.key_dim, plan.value_dim))
    for start in range(begin, end, tile.TILE):
        n = min(np.int64(tile.TILE), end - start)
        keys, values = k + start * k_step, v + start * v_step
        later = keys + tile.TILE * k_step if start + 2 * tile.TILE <= end else np.int64(0)
        # Asked anew in every round, or the compiler would let go of the room.
        at, pitch = room.ctypes.data, room.strides[0]
        logw = carray(bits.point(_F32, w + 4 * start), (n if plan.logw else 0,))
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        spelling.widen(like, keys, k_step, n, plan.key_dim, at, pitch)
        tile.logits_(_F32, plan, q, at, pitch, n, x, (values, v_step, v_size))
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            tile.weights_(plan, r, seen[r], logw, x, part)
        spelling.widen(like, values, v_step, n, plan.value_dim, at, pitch)
        tile.values_(_F32, plan, at, pitch, seen, is_sparse, x, part, (later, k_step, k_size))
