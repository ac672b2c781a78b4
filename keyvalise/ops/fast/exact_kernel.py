"""The loops of `exact`, block by block: bins of predictions, symbols, then the words.

Reads nothing outside its arrays whatever the bytes are; returns how many of each run were asked for, or −1
where an exponent leaves its field or the low bits end.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops import exact, floats, located
from keyvalise.ops.fast import rans_kernel
from keyvalise.ops.fast.compiled import seeing
from keyvalise.ops.fast.rans_kernel import take

kernel = seeing(exact, floats, located, rans_kernel)

_U = np.uint64
_MASK, _ONE, _P = _U(4095), _U(1), _U(12)
_WIDE, _WORD, _FULL = _U(24), _U(32), _U(1 << 32)
_MOST, _ESCAPE, _PLACES, _SIZES = located.MOST, located.ESCAPE, located.PLACES, located.SIZES
_GAP, _FAR, _LIST = floats.MOST_GAP, floats.FAR, exact.LISTED
_LOW, _HIGH = -(2.0**30), 2.0**30
_BLOCK = 512
_NEAR = 4096
_LENGTHS = np.array([max(n, 1).bit_length() - 1 for n in range(_NEAR)], np.uint8)


@kernel
def _predict(p, s, powers, family, rows, base):  # type: ignore[no-untyped-def]
    """Table times 4096 and bin of every prediction."""
    middle = len(powers) // 2
    for i in range(len(p)):
        fine = np.float64(p[i]) * powers[_U(4 - (np.int64(s[i]) >> 2) + middle)]
        # A comparison with NaN is false, so that it ends as 0.
        fine = max(fine, _LOW) if fine < _HIGH else (_HIGH if fine >= _HIGH else 0.0)
        whole = np.int64(np.floor(fine))
        rows[i] = np.uint32(((family * _SIZES + (np.int64(s[i]) & 3)) * _PLACES + (whole & 15)) << 12)
        base[i] = (whole >> 4) - _MOST


@kernel
def _gap(words, at, states, flat, lane):  # type: ignore[no-untyped-def]
    """The next symbol of a lane of the gaps."""
    x = states[lane]
    entry = _U(flat[(x >> _P) & _MASK])
    x = (((((entry & _MASK) + _ONE) * (x >> _WIDE)) + ((entry >> _P) & _MASK)) << _P) | (x & _MASK)
    if x < _FULL and at[0, lane] > at[1, lane]:
        at[0, lane] -= 1
        x = (x << _WORD) | _U(words[_U(at[0, lane])])
    states[lane] = x
    return np.int64(entry >> _WIDE)


@kernel
def read(words, at, states, flat, gap_words, gap_at, gap_states, gap_flat, p, s, powers, shape, runs, out):  # type: ignore[no-untyped-def]
    """Fill out with words.

    powers   powers of two around 1;  shape: family, bits of mantissa, bits of exponent
    runs     escapes int32, fields uint8, low uint8 (eight more bytes), listed words
    """
    escapes, fields, low, listed = runs
    family, mantissa, exponent = shape
    lane, gap_lane, gap_last, bit = _U(0), _U(0), _U(len(gap_states) - 1), 0
    n_escapes, n_fields, n_listed = 0, 0, 0
    bias, most, implied = (1 << (exponent - 1)) - 1, (1 << exponent) - 1, (1 << mantissa) - 1
    rows, base = np.empty(_BLOCK, np.uint32), np.empty(_BLOCK, np.int64)
    symbols = np.empty(_BLOCK, np.uint8)
    for first in range(0, len(p), _BLOCK):
        n = min(_BLOCK, len(p) - first)
        _predict(p[first : first + n], s[first : first + n], powers, family, rows, base)
        lane = take(words, at, states, flat, rows[:n], lane, symbols[:n])
        for i in range(n):
            q = base[i] + symbols[i]
            if symbols[i] == _ESCAPE:
                q = np.int64(escapes[n_escapes]) if n_escapes < len(escapes) else np.int64(0)
                n_escapes += 1
                if q == _LIST:
                    out[first + i] = listed[n_listed] if n_listed < len(listed) else 0
                    n_listed += 1
                    continue
            j, sign = np.int64(s[first + i]) >> 2, np.int64(q < 0)
            u = -q - 1 if q < 0 else q
            width, field, significand = mantissa, np.int64(0), np.int64(0)
            if u == 0:
                gap = _gap(gap_words, gap_at, gap_states, gap_flat, gap_lane)
                gap_lane = (gap_lane + _ONE) & gap_last
                field = bias + j - 1 - gap
                if gap == _GAP:
                    field = np.int64(fields[n_fields]) if n_fields < len(fields) else np.int64(0)
                    n_fields += 1
            else:
                over = 0 if u < _NEAR else (12 if u < _NEAR * _NEAR else 24)
                above = over + np.int64(_LENGTHS[_U(min(u >> over, _NEAR - 1))])
                width = min(max(mantissa - above, 0), mantissa)
                significand = (u >> min(max(above - mantissa, 0), _FAR)) << width
                field = above + j + bias
            place = _U(bit >> 3)
            if field < 0 or field > most or place > _U(len(low) - 8):
                return -1, n_fields, n_listed, bit
            near = np.int64(low[place]) | np.int64(low[place + _ONE]) << 8
            near |= np.int64(low[place + _U(2)]) << 16 | np.int64(low[place + _U(3)]) << 24
            rest = ((near >> (bit & 7)) & ((1 << width) - 1)) | (significand & implied)
            bit += width
            out[first + i] = sign << (mantissa + exponent) | field << mantissa | rest
    return n_escapes, n_fields, n_listed, bit
