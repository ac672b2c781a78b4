"""The loop of `planes`: one symbol after another, each in the table that its neighbours name."""

from __future__ import annotations

import numpy as np

from keyvalise.ops import planes
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(planes)

_U = np.uint64
_MASK, _ONE, _P = _U(4095), _U(1), _U(12)
_WIDE, _WORD, _FULL = _U(24), _U(32), _U(1 << 32)
_COLUMN, _ABOVE, _BEFORE = planes.COLUMN, planes.ABOVE, planes.BEFORE


@kernel
def read(words, at, states, flat, mode, near, columns, before, out):  # type: ignore[no-untyped-def]
    """Fill out [N · C]."""
    ends, begins, last = at[0], at[1], _U(len(states) - 1)
    lane, column = _U(0), 0
    for i in range(len(out)):
        table = 0
        if mode == _COLUMN:
            table = column
        elif mode == _ABOVE:
            table = near[out[i - columns]] if i >= columns else near[0]
        elif mode == _BEFORE:
            table = near[before[i]]
        x = states[lane]
        entry = _U(flat[(_U(table) << _P) | ((x >> _P) & _MASK)])
        x = (((((entry & _MASK) + _ONE) * (x >> _WIDE)) + ((entry >> _P) & _MASK)) << _P) | (x & _MASK)
        if x < _FULL and ends[lane] > begins[lane]:
            ends[lane] -= 1
            x = (x << _WORD) | _U(words[_U(ends[lane])])
        states[lane] = x
        out[i] = entry >> _WIDE
        lane = (lane + _ONE) & last
        column = column + 1 if column + 1 < columns else 0
