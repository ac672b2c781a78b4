"""The loop of short rows: symbols of each row's table, the low bits below, escapes.

Reads nothing outside its arrays whatever the bytes are; eight bytes behind the low bits are zero.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops import densities
from keyvalise.ops.fast.compiled import seeing

kernel = seeing(densities)

_U = np.uint64
_MASK, _ONE, _P = _U(4095), _U(1), _U(12)
_WIDE, _WORD, _FULL = _U(24), _U(32), _U(1 << 32)
_MOST, _ESCAPE = densities.MOST, densities.ESCAPE


@kernel
def read(words, at, states, flat, tables, widths, lengths, low, escapes, out):  # type: ignore[no-untyped-def]
    """Fill out with all rows, one after another; returns how many escapes were asked for."""
    ends, begins, last = at[0], at[1], _U(len(states) - 1)
    lane, taken, bit, i = _U(0), 0, np.int64(0), 0
    for r in range(len(lengths)):
        row, width = _U(tables[r]) << _P, np.int64(widths[r])
        half, mask = (1 << width) >> 1, (1 << width) - 1
        for _ in range(lengths[r]):
            x = states[lane]
            entry = _U(flat[row | ((x >> _P) & _MASK)])
            x = (((((entry & _MASK) + _ONE) * (x >> _WIDE)) + ((entry >> _P) & _MASK)) << _P) | (x & _MASK)
            if x < _FULL and ends[lane] > begins[lane]:
                ends[lane] -= 1
                x = (x << _WORD) | _U(words[_U(ends[lane])])
            states[lane] = x
            lane = (lane + _ONE) & last
            symbol = np.int64(entry >> _WIDE)
            place = _U(bit >> 3)
            near = np.int64(low[place]) | np.int64(low[place + _U(1)]) << 8
            near |= np.int64(low[place + _U(2)]) << 16 | np.int64(low[place + _U(3)]) << 24
            value = ((symbol - _MOST) << width) + ((near >> (bit & 7)) & mask) - half
            bit += width
            if symbol == _ESCAPE:
                value = np.int64(escapes[taken]) if taken < len(escapes) else np.int64(0)
                taken += 1
            out[i] = value
            i += 1
    return taken
