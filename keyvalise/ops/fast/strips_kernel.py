"""The loops of `strips`: contexts, symbols, low bits, echoes and escapes of one component after another.

Reads nothing outside its arrays whatever the bytes are. A token without an echo echoes itself, which never
counts; nothing branches on what a token is, because nobody could foretell which way.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops import densities, energy
from keyvalise.ops.fast import rans_kernel
from keyvalise.ops.fast.compiled import seeing
from keyvalise.ops.fast.rans_kernel import take

kernel = seeing(densities, energy, rans_kernel)

_U, _I = np.uint64, np.int64
_MOST, _ESCAPE = densities.MOST, densities.ESCAPE
_OFF, _NEARER = energy.PRIOR - energy.TRUST, energy.NEARER
_TABLE = np.uint32(12)


@kernel
def _class(sums, limits, out):  # type: ignore[no-untyped-def]
    """How many of the seven limits each sum has reached."""
    a, b, c, d, e, f, g = limits[0], limits[1], limits[2], limits[3], limits[4], limits[5], limits[6]
    for i in range(len(out)):
        x = sums[i]
        low = np.int32(x >= a) + np.int32(x >= b) + np.int32(x >= c) + np.int32(x >= d)
        out[i] = low + np.int32(x >= e) + np.int32(x >= f) + np.int32(x >= g)


@kernel
def _echoes(loud, missed, has_echo, near):  # type: ignore[no-untyped-def]
    """near: −1 where a token's echo is nearer than nothing, else 0."""
    for i in range(len(near)):
        near[i] = -np.int32(_NEARER * missed[i] < loud[i] - _OFF) & has_echo[i]


@kernel
def _choose(base, others, near, classes):  # type: ignore[no-untyped-def]
    """The class of an echo in place of that of loudness, where it is nearer."""
    for i in range(len(near)):
        classes[i] ^= (classes[i] ^ (base[i] + others[i])) & np.uint8(near[i])


@kernel
def _tables(rows, classes, out):  # type: ignore[no-untyped-def]
    """The table of every class, times 4096."""
    wide = rows.astype(np.uint32) << _TABLE
    for i in range(len(out)):
        out[i] = wide[_U(classes[i])]


@kernel
def _restore(symbols, width, low, bit, codes):  # type: ignore[no-untyped-def]
    """Codes or differences of symbols and of the low bits from `bit` on; returns how many escapes."""
    n_escapes = 0
    for i in range(len(codes)):
        n_escapes += symbols[i] == _ESCAPE
        codes[i] = (_I(symbols[i]) - _MOST) << width
    if width:
        half, mask = (1 << width) >> 1, (1 << width) - 1
        for i in range(len(codes)):
            at = _U(bit >> 3)
            word = (
                _I(low[at]) | _I(low[at + _U(1)]) << 8 | _I(low[at + _U(2)]) << 16 | _I(low[at + _U(3)]) << 24
            )
            codes[i] += ((word >> (bit & 7)) & mask) - half
            bit += width
    return n_escapes


@kernel
def _add(codes, of, near, symbols, n_escapes, escapes, taken):  # type: ignore[no-untyped-def]
    """Add what tokens echo and put escapes in their places; returns how many were taken in all."""
    if n_escapes == 0:
        for i in range(len(near)):
            codes[i] += codes[_U(of[i])] & near[i]
        return taken
    for i in range(len(codes)):
        if len(near):
            codes[i] += codes[_U(of[i])] & near[i]
        if symbols[i] == _ESCAPE:
            codes[i] = escapes[taken] if taken < len(escapes) else 0
            taken += 1
    return taken


@kernel
def read(words, at, states, slots, rows, scales, widths, low, escapes, echo, sums, codes):  # type: ignore[no-untyped-def]
    """Fill codes [R, N]; returns how many escapes were asked for.

    scales   weight, limits of loudness, limits of echoes, as `energy.Scales`
    echo     of int64 [N], itself where there is none, and first class of its depth uint8 [N]; or both empty
    sums     loud float32 [N], missed float32 [N] or empty
    """
    weight, loud_limits, near_limits = scales
    of, base = echo
    loud, missed = sums
    n, lane, taken, bit = codes.shape[1], _U(0), 0, _I(0)
    flat, tables, symbols = slots.ravel(), np.empty(n, np.uint32), np.empty(n, np.uint8)
    classes, others = np.empty(n, np.uint8), np.empty(len(of), np.uint8)
    near, has_echo = np.zeros(len(of), np.int32), np.empty(len(of), np.int32)
    for i in range(len(of)):
        has_echo[i] = -np.int32(of[i] != i)
    for r in range(len(codes)):
        own, heavy = codes[r], weight[r]
        _class(loud, loud_limits[r], classes)
        if len(of):
            _class(missed, near_limits[r], others)
            _echoes(loud, missed, has_echo, near)
            _choose(base, others, near, classes)
        _tables(rows[r], classes, tables)
        lane = take(words, at, states, flat, tables, lane, symbols)
        n_escapes = _restore(symbols, widths[r], low, bit, own)
        taken = _add(own, of, near, symbols, n_escapes, escapes, taken)
        bit += n * widths[r]
        for i in range(n):
            loud[i] += np.float32(abs(own[i])) * heavy
        for i in range(len(of)):
            missed[i] += np.float32(abs(own[i] - own[_U(of[i])])) * heavy
    return taken
