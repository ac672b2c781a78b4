"""The loops of `rans`: 64-bit states, 32-bit words, frequencies of 12 bits widened to 24.

A state x holds at least 32 bits until the first symbols written are reached. Writing symbol (f, c) with f, c
scaled to 24 bits: x → ⌊x / f⌋ · 2²⁴ + x mod f + c, after giving away 32 bits where x ≥ f · 2⁴⁰.
Reading touches nothing outside its arrays, whatever the words are.
"""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel

_U = np.uint64
_MASK, _ONE, _P = _U(4095), _U(1), _U(12)
_WIDE, _WORD, _FULL = _U(24), _U(32), _U(1 << 32)


@kernel
def write(symbols, contexts, cumulative, room, counts):  # type: ignore[no-untyped-def]
    """Words [lanes, ·] and how many, of symbols written from the last to the first."""
    n_lanes = len(counts)
    states = np.zeros(n_lanes, np.uint64)
    for i in range(len(symbols) - 1, -1, -1):
        lane, table, symbol = i % n_lanes, contexts[i], symbols[i]
        begin = _U(cumulative[table, symbol])
        width = _U(cumulative[table, symbol + 1]) - begin
        x = states[lane]
        if (x >> _U(52)) >= width:
            room[lane, counts[lane]] = np.uint32(x & _U(0xFFFFFFFF))
            counts[lane] += 1
            x >>= _WORD
        # f = width · 2¹², so the low 12 bits of x pass through unchanged.
        high = x >> _P
        share = high // width
        states[lane] = (share << _WIDE) + ((high - share * width + begin) << _P) + (x & _MASK)
    for lane in range(n_lanes):
        x = states[lane]
        while x != _U(0):
            room[lane, counts[lane]] = np.uint32(x & _U(0xFFFFFFFF))
            counts[lane] += 1
            x >>= _WORD


@kernel
def start(words, at, states):  # type: ignore[no-untyped-def]
    """Fill every state from the end of its lane."""
    for lane in range(len(states)):
        x = _U(0)
        while x < _FULL and at[0, lane] > at[1, lane]:
            at[0, lane] -= 1
            x = (x << _WORD) | _U(words[at[0, lane]])
        states[lane] = x


@kernel
def take(words, at, states, flat, rows, lane, out):  # type: ignore[no-untyped-def]
    """Symbols of tables rows / 4096, the first from `lane`; returns the lane after the last."""
    ends, begins, last = at[0], at[1], _U(len(states) - 1)
    lane = _U(lane)
    for i in range(len(out)):
        x = states[lane]
        entry = _U(flat[_U(rows[i]) | ((x >> _P) & _MASK)])
        x = (((((entry & _MASK) + _ONE) * (x >> _WIDE)) + ((entry >> _P) & _MASK)) << _P) | (x & _MASK)
        if x < _FULL and ends[lane] > begins[lane]:
            ends[lane] -= 1
            x = (x << _WORD) | _U(words[_U(ends[lane])])
        states[lane] = x
        out[i] = entry >> _WIDE
        lane = (lane + _ONE) & last
    return lane
