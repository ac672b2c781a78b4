"""The loops of `affine`: the arithmetic of `ops.affine`, in float32 and in its order, group by group."""

from __future__ import annotations

import numpy as np

from keyvalise.ops import halves
from keyvalise.ops.fast import bits as tools
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(halves, tools)

_LARGEST, _HAIR, _NARROW = np.float32(halves.LARGEST), np.float32(halves.HAIR), np.float32(halves.NARROW)
_ZERO = np.float32(0.0)


@kernel
def _ends(x, first, last):  # type: ignore[no-untyped-def]
    """Least and largest of x[first] … x[last − 1] as far as float16 goes; NaN if one is."""
    low = high = x[first]
    is_odd = False
    for c in range(first, last):
        low, high = -tools.larger(-low, -x[c]), tools.larger(high, x[c])
        is_odd |= x[c] != x[c]
    if is_odd:
        return np.float32(np.nan), np.float32(np.nan)
    return min(max(low, -_LARGEST), _LARGEST) + _ZERO, min(max(high, -_LARGEST), _LARGEST)


@kernel
def _fit(low, high, levels):  # type: ignore[no-untyped-def]
    """Step and offset, as the bits of float16 and as float32."""
    offset = tools.half_bits(low)
    if tools.of_half(offset) < low:
        offset += np.int16(1) if offset >= 0 else np.int16(-1)
    begin = tools.of_half(offset)
    exact = (high - begin) / levels
    exact = _ZERO if exact < _ZERO else exact
    step = tools.half_bits(exact)
    if tools.of_half(step) > exact * _HAIR:
        step -= np.int16(1)
    span = levels * tools.of_half(step)
    if span <= _NARROW * max(abs(begin), abs(begin + span)):
        step = np.int16(0)
    return step, offset, tools.of_half(step), begin


@kernel
def _round_(x, first, last, step, offset, levels, codes):  # type: ignore[no-untyped-def]
    """codes[c] = the nearest level of x[c], for first ≤ c < last."""
    for c in range(first, last):
        level = np.rint((x[c] - offset) / step) if step > _ZERO else _ZERO
        level = level if level > _ZERO else _ZERO
        codes[c] = np.uint8(level if level < levels else levels)


@kernel
def encode(x, bits, begin, end, packed, scales):  # type: ignore[no-untyped-def]
    """Rows begin … end − 1 of x [N, D] into packed [N, W] and the bits of scales [N, groups, 2]."""
    dim, groups, n_bytes = x.shape[1], scales.shape[1], packed.shape[1]
    size, planes, levels = (dim + groups - 1) // groups, 8 // bits, np.float32((1 << bits) - 1)
    codes = np.zeros(planes * n_bytes, np.uint8)
    for row in range(begin, end):
        for g in range(groups):
            # A group that begins behind the last channel repeats it.
            first, last = min(g * size, dim - 1), min((g + 1) * size, dim)
            low, high = _ends(x[row], first, last)
            scales[row, g, 0], scales[row, g, 1], step, offset = _fit(low, high, levels)
            _round_(x[row], first, last, step, offset, levels, codes)
        for i in range(n_bytes):
            packed[row, i] = codes[i]
        for plane in range(1, planes):
            for i in range(n_bytes):
                packed[row, i] |= codes[plane * n_bytes + i] << (plane * bits)
