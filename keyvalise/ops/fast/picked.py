"""As `tile`, for entries that are picked one by one: a tile of them at a time is brought together.

Flows in    queries, addresses of all that is stored, and of the places of a run's entries
Flows out   `part`, as in `tile`
Knows not   rows, heads, where runs begin. Scratch is one tile of keys or values, whatever the run's length;
            what is copied next is asked for one tile ahead.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, scratch, simd, softmax, tile
from keyvalise.ops.fast.inlined import inlined, merged

_I32, _F32 = np.int32(0), np.float32(0.0)


@inlined
def places_(plan, index, first, own):  # type: ignore[no-untyped-def]
    """own[t] = where entry t is stored: as address `index` says, nowhere outside; if 0, from `first` on."""
    if index:
        given = carray(bits.point(_I32, index), (own.size,))
        for t in range(own.size):
            own[t] = min(max(np.int64(0), np.int64(given[t])), plan.n_stored - 1)
    else:
        for t in range(own.size):
            own[t] = first + t


@inlined
def log_weights(plan, own, room):  # type: ignore[no-untyped-def]
    """Those of the entries stored at own [n], in `room`; none where nobody has any."""
    found = room[: own.size if plan.logw else 0]
    for t in range(found.size):
        found[t] = carray(bits.point(_F32, plan.logw + 4 * own[t]), (1,))[0]
    return found


@inlined
def _gather_(own, base, step, size, to, ahead, ahead_step, ahead_size):  # type: ignore[no-untyped-def]
    """Copy the entries `own` of one side; meanwhile those of the other, at `ahead`, are brought near."""
    for t in range(own.size):
        simd.fetch(ahead + own[t] * ahead_step, ahead_size)
        bits.copy(to + t * size, base + own[t] * step, size)


@merged
def read(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, places, begin, end); row r sees entries before
    limits[r].
    """
    q, k, v, _, index, begin, end = run
    k_step, k_size = plan.itemsize * plan.k_entry, plan.itemsize * plan.key_dim
    v_step, v_size = plan.itemsize * plan.v_entry, plan.itemsize * plan.value_dim
    room = scratch.rows(1, tile.TILE * max(k_size, v_size) // 4)
    ours, theirs = np.empty(tile.TILE, np.int64), np.empty(tile.TILE, np.int64)
    weights = np.empty(tile.TILE, np.float32)
    for start in range(begin, end, tile.TILE):
        n = min(np.int64(tile.TILE), end - start)
        own, coming = ours[:n], theirs[: min(np.int64(tile.TILE), end - start - n)]
        places_(plan, index + 4 * start, np.int64(0), own)
        # Asked anew in every round, or the compiler would let go of the room.
        at = room.ctypes.data
        logw = log_weights(plan, own, weights)
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        _gather_(own, k, k_step, k_size, at, v, v_step, v_size)
        tile.logits_(like, plan, q, at, k_size, n, x, tile.NONE)
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            tile.weights_(plan, r, seen[r], logw, x, part)
        places_(plan, index + 4 * (start + n), np.int64(0), coming)
        for t in range(coming.size):
            simd.fetch(k + coming[t] * k_step, k_size)
        for t in range(n):
            bits.copy(at + t * v_size, v + own[t] * v_step, v_size)
        tile.values_(like, plan, at, v_size, seen, is_sparse, x, part, tile.NONE)
