"""Elementary functions whose results are the same bits on every machine: what a decoder must find again.

Libraries round exp, cos and sin each in their own way. Sums, products, quotients and roots are
rounded alike everywhere; only these are used here, one array operation at a time, so that nothing is fused.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

# ln 2 and π/2 in pieces with so many trailing zeros that a multiple of the first ones is exact.
_LN2 = (0.693147180369123816490, 1.90821492927058770002e-10)
_HALF_PI = (1.57079632673412561417e00, 6.07710050630396597660e-11, 2.02226624879595063154e-21)
_INVERSE_FACTORIALS = tuple(1.0 / math.factorial(n) for n in range(18))


def exp(x: Floats) -> Floats:
    """eˣ for x ≤ 0, to about 1e-15; below −700 as at −700."""
    x = np.maximum(x, -700.0)
    n = np.floor(x / _LN2[0] + 0.5)
    r = x - n * _LN2[0] - n * _LN2[1]
    total = np.full_like(r, _INVERSE_FACTORIALS[14])
    for factor in _INVERSE_FACTORIALS[13::-1]:
        total = total * r + factor
    return np.ldexp(total, n.astype(np.int32))


def cos_sin(phase: Floats) -> tuple[Floats, Floats]:
    """Cosine and sine of angles up to about 10⁶ radians, to about 1e-11."""
    n = np.floor(phase / _HALF_PI[0] + 0.5)
    r = phase - n * _HALF_PI[0] - n * _HALF_PI[1] - n * _HALF_PI[2]
    square = -(r * r)
    cos = np.full_like(r, _INVERSE_FACTORIALS[16])
    sin = np.full_like(r, _INVERSE_FACTORIALS[17])
    for i in range(14, -1, -2):
        cos = cos * square + _INVERSE_FACTORIALS[i]
        sin = sin * square + _INVERSE_FACTORIALS[i + 1]
    sin = sin * r
    quarter = n.astype(np.int64) & 3
    is_odd = (quarter & 1).astype(bool)
    c, s = np.where(is_odd, sin, cos), np.where(is_odd, cos, sin)
    return np.where((quarter == 1) | (quarter == 2), -c, c), np.where(quarter >= 2, -s, s)


def product(turn: Singles, y: Singles) -> Singles:
    """turn · y with every sum taken from the first term to the last, in float32.

    Shapes   turn [C, R], y [R, N] → [C, N]
    """
    out = np.zeros((len(turn), y.shape[1]), np.float32)
    for r in range(len(y)):
        out += turn[:, r, None] * y[r]
    return out


def rotate(x: Singles, phase: Floats, width: int, is_interleaved: bool) -> Singles:
    """Every channel pair (a, b) to (a·cos − b·sin, b·cos + a·sin); as `rope.rotate`, but the same everywhere.

    Shapes   x [..., D], phase [..., width/2], broadcast against it → [..., D]
    """
    cos, sin = (part.astype(np.float32) for part in cos_sin(phase))
    half = width // 2
    first, second = (
        (slice(0, width, 2), slice(1, width, 2)) if is_interleaved else (slice(0, half), slice(half, width))
    )
    out = x.copy()
    a, b = x[..., first], x[..., second]
    out[..., first] = a * cos - b * sin
    out[..., second] = b * cos + a * sin
    return out
