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

_I32, _F32 = np.int32(0), np.float32(0.0)
_shared, _each = spelling.levels(True), spelling.levels(False)


@inlined
def _steps_(scales, groups, row, steps):  # type: ignore[no-untyped-def]
    """steps[0], steps[1] = the steps and the offsets of a row of scales."""
    for g in range(groups):
        at = scales + 4 * (row * groups + g)
        steps[0, g], steps[1, g] = bits.half(at), bits.half(at + 2)


@inlined
def _stretches(side, dim):  # type: ignore[no-untyped-def]
    """int64 [n, 5]: neighbouring channels that lie in one plane of the codes and share a step, or each have
    their own: first byte, shift, first group, first channel, how many.
    """
    _, _, size, groups, _ = side
    n_bytes, width = dim * size // 8, (dim + groups - 1) // groups
    found, n = np.empty((8 // size + groups, 5), np.int64), 0
    for plane in range(8 // size):
        c, last = plane * n_bytes, (plane + 1) * n_bytes
        while c < last:
            group = c // width
            end = last if width == 1 else min(last, (group + 1) * width)
            found[n, 0], found[n, 1], found[n, 2] = c - plane * n_bytes, plane * size, group
            found[n, 3], found[n, 4] = c, end - c
            n, c = n + 1, end
    return found[:n]


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
def _spell_(codes, side, stretches, dim, own, steps, room):  # type: ignore[no-untyped-def]
    """room[t] = entry own[t] of all; `codes` is the address of entry 0."""
    scales, _, size, groups, _ = side
    step, offset = steps.ctypes.data, steps.ctypes.data + steps.strides[0]
    mask, n_bytes, is_each = (1 << size) - 1, dim * size // 8, groups == dim
    known = np.int64(-1)
    for t in range(own.size):
        row = _row_of(side, own[t])
        if row != known:
            _steps_(scales, groups, row, steps)
            known = row
        code, to = codes + own[t] * n_bytes, room.ctypes.data + t * room.strides[0]
        for i in range(stretches.shape[0]):
            at, shift, group, c, m = stretches[i]
            if is_each:
                _each(code + at, shift, mask, step + 4 * group, offset + 4 * group, m, to + 4 * c)
            else:
                _shared(code + at, shift, mask, step + 4 * group, offset + 4 * group, m, to + 4 * c)


@merged
def read(plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, places, begin, end); row r sees entries before
    limits[r].
    """
    q, k, _, _, index, begin, end = run
    of_keys, of_values = _sides(plan)
    room = scratch.rows(tile.TILE, max(plan.key_dim, plan.value_dim))
    steps = np.empty((2, max(plan.k_groups, plan.v_groups)), np.float32)
    weights = np.empty(tile.TILE, np.float32)
    before, stride = (k - plan.k) // plan.k_entry, room.strides[0]
    in_keys, in_values = _stretches(of_keys, plan.key_dim), _stretches(of_values, plan.value_dim)
    for start in range(begin, end, tile.TILE):
        n = min(np.int64(tile.TILE), end - start)
        own = np.arange(before + start, before + start + n)
        if index:
            own = picked.places(plan, index + 4 * start, n)
        # Asked anew in every round, or the compiler would let go of the room.
        at = room.ctypes.data
        logw = picked.log_weights(plan, own, weights)
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        _spell_(plan.k, of_keys, in_keys, plan.key_dim, own, steps, room)
        near, later = np.int64(0), np.int64(0)
        if index == 0:
            near = plan.v + own[0] * plan.v_entry
            later = plan.k + (own[0] + tile.TILE) * plan.k_entry if start + 2 * tile.TILE <= end else later
        tile.logits_(_F32, plan, q, at, stride, n, x, near)
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            tile.weights_(plan, r, seen[r], logw, x, part)
        _spell_(plan.v, of_values, in_values, plan.value_dim, own, steps, room)
        tile.values_(_F32, plan, at, stride, seen, is_sparse, x, part, later)
