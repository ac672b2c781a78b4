"""Turning a key by its position, sines and cosines included, written so that LLVM vectorises every loop.

Flows in    a position, the plan's frequencies and scaling; a row of float32, changed in place
Knows not   whose row it is. Angles are those of `types.geometry.Rope`: the phase is rounded to float32 before
            anything is taken of it, as `waves` says.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, simd, waves
from keyvalise.ops.fast.inlined import inlined
from keyvalise.ops.fast.legible import LANES

_F32 = np.float32(0.0)
_ROUND = 1.5 * 2.0**52
_PI, _ONE, _TWO = np.float32(math.pi), np.float32(1.0), np.float32(2.0)
_S0, _S1, _S2, _S3 = (np.float32(x) for x in waves.SINE)
_C0, _C1, _C2, _C3, _C4 = (np.float32(x) for x in waves.COSINE)


@inlined(fastmath={"contract"})
def _angles_(frequencies, position, scaling, cos, sin):  # type: ignore[no-untyped-def]
    """scaling times the cosines and sines of position·frequencies; reordering would undo the rounding."""
    for k in range(frequencies.size):
        turns = np.float64(position * frequencies[k]) * waves.TURNS
        # Half of what exceeds whole turns; its sine and cosine give those of the whole by doubling.
        y = np.float32(turns - ((turns + _ROUND) - _ROUND)) * _PI
        z = y * y
        s = y + y * z * (((_S3 * z + _S2) * z + _S1) * z + _S0)
        c = _ONE + z * ((((_C4 * z + _C3) * z + _C2) * z + _C1) * z + _C0)
        sin[k] = scaling * (_TWO * s * c)
        cos[k] = scaling * (_ONE - _TWO * s * s)


@inlined(fastmath={"contract"})
def _pairs_(row, cos, sin, half):  # type: ignore[no-untyped-def]
    """The pairs of neighbours."""
    for k in range(half):
        a, b = row[2 * k], row[2 * k + 1]
        row[2 * k] = a * cos[k] - b * sin[k]
        row[2 * k + 1] = b * cos[k] + a * sin[k]


@inlined
def turn_(plan, position, room, row):  # type: ignore[no-untyped-def]
    """row ← scaling·R(position)·row; room [2, n_angles] is scratch. Channel k turns with k + n_angles, or
    channel 2k with 2k + 1.
    """
    half = plan.n_angles
    frequencies = carray(bits.point(_F32, plan.frequencies), (half,))
    _angles_(frequencies, position, plan.turn_scaling, room[0], room[1])
    if plan.is_interleaved:
        _pairs_(row, room[0], room[1], half)
    else:
        low, whole = row.ctypes.data, half // LANES * LANES
        simd.turn(low, low + 4 * half, room[0].ctypes.data, room[1].ctypes.data, whole)
        for k in range(whole, half):
            a, b = row[k], row[k + half]
            row[k], row[k + half] = a * room[0, k] - b * room[1, k], b * room[0, k] + a * room[1, k]
