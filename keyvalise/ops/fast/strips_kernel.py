"""The loop of `strips`: contexts, symbols, low bits and escapes of one component after another.

Reads nothing outside its arrays whatever the bytes are.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops import densities, energy
from keyvalise.ops.fast import rans_kernel
from keyvalise.ops.fast.compiled import seeing
from keyvalise.ops.fast.rans_kernel import take

kernel = seeing(densities, energy, rans_kernel)

_MOST, _ESCAPE = densities.MOST, densities.ESCAPE
_SHIFT, _LOUDEST = energy.SHIFT, energy.LOUDEST
_TABLE = np.uint32(12)


@kernel
def _contexts(loud, part, rows, classes, out):  # type: ignore[no-untyped-def]
    """The table of every token, times 4096."""
    wide = rows.astype(np.uint32) << _TABLE
    for i in range(len(out)):
        ratio = min((loud[i] * part) >> _SHIFT, 127)
        out[i] = wide[classes[np.uint64(ratio)]]


@kernel
def _restore(symbols, width, low, bit, codes):  # type: ignore[no-untyped-def]
    """Codes of symbols and of the low bits from `bit` on; returns the number of escapes among them."""
    n_escapes = 0
    for i in range(len(codes)):
        n_escapes += symbols[i] == _ESCAPE
        codes[i] = (np.int64(symbols[i]) - _MOST) << width
    if width:
        half, mask = (1 << width) >> 1, (1 << width) - 1
        for i in range(len(codes)):
            at = np.uint64(bit >> 3)
            near = np.int64(low[at]) | np.int64(low[at + np.uint64(1)]) << 8
            near |= np.int64(low[at + np.uint64(2)]) << 16 | np.int64(low[at + np.uint64(3)]) << 24
            codes[i] += ((near >> (bit & 7)) & mask) - half
            bit += width
    return n_escapes


@kernel
def read(words, at, states, slots, rows, weight, inverse, classes, widths, low, escapes, loud, codes):  # type: ignore[no-untyped-def]
    """Fill codes [R, N]; returns how many escapes were asked for."""
    n, lane, taken, bit = codes.shape[1], np.uint64(0), 0, 0
    flat, tables, symbols = slots.ravel(), np.empty(n, np.uint32), np.empty(n, np.uint8)
    for r in range(len(codes)):
        _contexts(loud, inverse[r], rows[r], classes, tables)
        lane = take(words, at, states, flat, tables, lane, symbols)
        n_escapes = _restore(symbols, widths[r], low, bit, codes[r])
        bit += n * widths[r]
        if n_escapes:
            for i in range(n):
                if symbols[i] == _ESCAPE:
                    codes[r, i] = escapes[taken] if taken < len(escapes) else 0
                    taken += 1
        for i in range(n):
            loud[i] += min(abs(np.int64(codes[r, i])), _LOUDEST) * weight[r]
    return taken
