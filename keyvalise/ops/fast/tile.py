"""A run of entries of one kv head against its group of queries, with a running maximum and sum per query.

Flows in    queries [R, D] float32 (R = group · queries), addresses of the run's keys, values, log-weights
Flows out   `part` [R, Dv + 2]: the unnormalised output, the highest logit, the sum of weights relative to it
Knows not   rows, heads, where runs begin
"""

from __future__ import annotations

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, lanes, simd, softmax
from keyvalise.ops.fast.inlined import inlined, merged
from keyvalise.ops.fast.legible import LANES

TILE = 64
"""Entries whose logits are held at once; what is spelled out of them stays in the first-level cache."""

NONE = (np.int64(0),) * 3
"""What comes later: its address, bytes from one entry to the next, bytes of one; here nothing."""

_F32 = np.float32(0.0)
# As many sums at once as keep the multipliers busy and stay in registers.
FOUR, TWO = (4, 8) if lanes.WIDE > LANES else (2, 4)
"""Entries that go together for four rows, and for two; for one row there are eight."""

_SIZES = ((4, FOUR), (2, TWO), (1, 8), (1, 1))
_dots_4, _dots_2, _dots_1, _dot = (simd.dots(*size) for size in _SIZES)
_blend_4, _blend_2, _blend_1, _blend = (simd.blend(*size) for size in _SIZES)


@inlined
def _rows_at_once(left):  # type: ignore[no-untyped-def]
    """How many of the rows left go together."""
    return 4 if left >= 4 else (2 if left >= 2 else 1)


@inlined
def _entries_at_once(rows):  # type: ignore[no-untyped-def]
    """How many entries go together for so many rows."""
    return FOUR if rows == 4 else (TWO if rows == 2 else 8)


@inlined
def _ask(ahead, begin, end):  # type: ignore[no-untyped-def]
    """Have entries begin … end − 1 of what comes later brought near."""
    address, step, size = ahead
    if address:
        for t in range(begin, end):
            simd.fetch(address + t * step, size)


@inlined
def logits_(like, plan, q, k, k_step, n, x, ahead):  # type: ignore[no-untyped-def]
    """x[r, t] = scale · q[r]·k[t] for n entries; meanwhile those `ahead` are brought near."""
    dim, scale, q_step, x_step = plan.key_dim, plan.scale, 4 * plan.key_dim, x.strides[0]
    r = 0
    while r < x.shape[0]:
        rows = _rows_at_once(x.shape[0] - r)
        step, query, to = _entries_at_once(rows), q + r * q_step, x.ctypes.data + r * x_step
        whole = n // step * step
        for t in range(0, whole, step):
            key, at = k + t * k_step, to + 4 * t
            if r == 0:
                _ask(ahead, t, t + step)
            if rows == 4:
                _dots_4(like, query, q_step, key, k_step, dim, scale, at, x_step)
            elif rows == 2:
                _dots_2(like, query, q_step, key, k_step, dim, scale, at, x_step)
            else:
                _dots_1(like, query, q_step, key, k_step, dim, scale, at, x_step)
        for i in range(rows):
            for t in range(whole, n):
                at = to + i * x_step + 4 * t
                _dot(like, query + i * q_step, q_step, k + t * k_step, k_step, dim, scale, at, x_step)
        r += rows


@inlined
def values_(like, plan, v, v_step, seen, is_sparse, x, part, ahead):  # type: ignore[no-untyped-def]
    """part[r] += Σ_t x[r, t]·v[t] over seen[r] entries, none of weight 0 if sparse; `ahead` as above."""
    dim, x_step, part_step = plan.value_dim, x.strides[0], part.strides[0]
    r = 0
    while r < x.shape[0]:
        rows = _rows_at_once(x.shape[0] - r)
        step, weights, to = (
            _entries_at_once(rows),
            x.ctypes.data + r * x_step,
            part.ctypes.data + r * part_step,
        )
        common = np.int64(0) if is_sparse else seen[r]
        for i in range(1, rows):
            common = min(common, seen[r + i])
        whole = common // step * step
        for t in range(0, whole, step):
            value, at = v + t * v_step, weights + 4 * t
            if r == 0:
                _ask(ahead, t, t + step)
            if rows == 4:
                _blend_4(like, at, x_step, value, v_step, dim, to, part_step)
            elif rows == 2:
                _blend_2(like, at, x_step, value, v_step, dim, to, part_step)
            else:
                _blend_1(like, at, x_step, value, v_step, dim, to, part_step)
        for i in range(rows):
            for t in range(whole, seen[r + i]):
                if x[r + i, t] != softmax.ZERO:
                    at = weights + i * x_step + 4 * t
                    _blend(like, at, x_step, v + t * v_step, v_step, dim, to + i * part_step, part_step)
        r += rows


@inlined
def weights_(plan, r, n, logw, x, part):  # type: ignore[no-untyped-def]
    """Row r of logits becomes weights relative to the highest logit so far; older sums are rescaled to it."""
    row, dim = x[r], plan.value_dim
    if plan.softcap != softmax.ZERO:
        softmax.cap_(row, n, plan.softcap)
    if plan.logw:
        softmax.shift_(row, n, logw)
    top = max(part[r, dim], softmax.highest(row, n))
    if top > part[r, dim]:
        fade = softmax.exp(part[r, dim] - top)
        part[r, dim] = top
        softmax.fade_(part[r], fade, dim)
        part[r, dim + 1] *= fade
    # Where everything is −inf, any finite anchor gives weights of 0, and NaN is not lost.
    part[r, dim + 1] += softmax.weigh_(row, n, softmax.ZERO if top == softmax.NOTHING else top)


@merged
def read(like, plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, –, begin, end); row r sees those before limits[r]."""
    q, k, v, w, _, begin, end = run
    k_step, v_step = plan.itemsize * plan.k_entry, plan.itemsize * plan.v_entry
    k_size, v_size = plan.itemsize * plan.key_dim, plan.itemsize * plan.value_dim
    for start in range(begin, end, TILE):
        n = min(np.int64(TILE), end - start)
        keys, values = k + start * k_step, v + start * v_step
        later = (keys + TILE * k_step if start + 2 * TILE <= end else np.int64(0), k_step, k_size)
        logw = carray(bits.point(_F32, w + 4 * start), (n if plan.logw else 0,))
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        logits_(like, plan, q, keys, k_step, n, x, (values, v_step, v_size))
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            weights_(plan, r, seen[r], logw, x, part)
        values_(like, plan, values, v_step, seen, is_sparse, x, part, later)
