"""As `tile`, for entries that are integers with steps and offsets: a tile of them at a time is spelled out.

Flows in    queries, addresses of a run's codes; the plan says where steps and offsets lie
Flows out   `part`, as in `tile`
Knows not   rows, heads, where runs begin. Scratch is one tile of keys or values, whatever the run's length.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, picked, scratch, softmax, spelling, tile
from keyvalise.ops.fast.inlined import inlined, merged
from keyvalise.ops.fast.lanes import WIDE

_I32, _F32 = np.int32(0), np.float32(0.0)
_shared, _each = spelling.levels(True), spelling.levels(False)


@inlined
def _sides(plan):  # type: ignore[no-untyped-def]
    """Of keys and of values: where scales lie, where an entry's row of them is said, bits, groups, run."""
    keys = (plan.k_scales, plan.k_rows, plan.k_bits, plan.k_groups, plan.k_run)
    return keys, (plan.v_scales, plan.v_rows, plan.v_bits, plan.v_groups, plan.v_run)


@inlined
def _row_of(side, place):  # type: ignore[no-untyped-def]
    """Which row of scales the entry stored at `place` has."""
    _, rows, _, _, run = side
    if rows != 0:
        return np.int64(carray(bits.point(_I32, rows + 4 * place), (1,))[0])
    return place if run == 1 else place // run


@inlined
def _scales_(side, own, steps, rows):  # type: ignore[no-untyped-def]
    """steps[0], steps[1] = steps and offsets of the rows that `own` has, neighbours said once, one behind the
    other; rows[t] = where entry t finds its own, in bytes.
    """
    scales, _, _, groups, _ = side
    first, n_rows, before = _row_of(side, own[0]), np.int64(0), np.int64(0)
    to, offsets = steps.ctypes.data, steps.ctypes.data + steps.strides[0]
    for t in range(own.size):
        row = _row_of(side, own[t])
        if row != first + n_rows - 1:
            if row != first + n_rows:
                at = 4 * groups * before
                spelling.separate(scales + 4 * groups * first, groups * n_rows, to + at, offsets + at)
                first, n_rows, before = row, np.int64(0), before + n_rows
            n_rows += 1
        rows[t] = 4 * groups * (before + n_rows - 1)
    at = 4 * groups * before
    spelling.separate(scales + 4 * groups * first, groups * n_rows, to + at, offsets + at)


@inlined
def _spell_(codes, side, dim, own, steps, rows, room):  # type: ignore[no-untyped-def]
    """room[t] = entry own[t] of all; `codes` is the address of entry 0."""
    _, _, size, groups, _ = side
    n_bytes, width, is_each = dim * size // 8, (dim + groups - 1) // groups, groups == dim
    wide = n_bytes if is_each or groups == 1 or (n_bytes % WIDE == 0 and width % WIDE == 0) else np.int64(0)
    _scales_(side, own, steps, rows)
    to, pitch, mine = room.ctypes.data, room.strides[0], rows.ctypes.data
    step, offset = steps.ctypes.data, steps.ctypes.data + steps.strides[0]
    at, n = own.ctypes.data, own.size
    if is_each:
        _each(codes, size, at, n, n_bytes, wide, width, step, offset, mine, to, pitch)
    else:
        _shared(codes, size, at, n, n_bytes, wide, width, step, offset, mine, to, pitch)


@merged
def read(plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, places, begin, end); row r sees entries before
    limits[r].
    """
    q, k, _, _, index, begin, end = run
    of_keys, of_values = _sides(plan)
    room = scratch.rows(tile.TILE, max(plan.key_dim, plan.value_dim))
    steps = np.empty((2, tile.TILE * max(plan.k_groups, plan.v_groups)), np.float32)
    ours, rows = np.empty(tile.TILE, np.int64), np.empty(tile.TILE, np.int64)
    weights = np.empty(tile.TILE, np.float32)
    before, stride = (k - plan.k) // plan.k_entry, room.strides[0]
    for start in range(begin, end, tile.TILE):
        n = min(np.int64(tile.TILE), end - start)
        own = ours[:n]
        picked.places_(plan, index + 4 * start if index else index, before + start, own)
        # Asked anew in every round, or the compiler would let go of the room.
        at = room.ctypes.data
        logw = picked.log_weights(plan, own, weights)
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        _spell_(plan.k, of_keys, plan.key_dim, own, steps, rows, room)
        near = later = np.int64(0)
        if index == 0:
            near = plan.v + own[0] * plan.v_entry
            later = plan.k + (own[0] + tile.TILE) * plan.k_entry if start + 2 * tile.TILE <= end else later
        tile.logits_(_F32, plan, q, at, stride, n, x, (near, plan.v_entry, plan.v_entry))
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            tile.weights_(plan, r, seen[r], logw, x, part)
        _spell_(plan.v, of_values, plan.value_dim, own, steps, rows, room)
        tile.values_(_F32, plan, at, stride, seen, is_sparse, x, part, (later, plan.k_entry, plan.k_entry))
