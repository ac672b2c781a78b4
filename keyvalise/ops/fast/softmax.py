"""Exponential, soft cap and weights over a short row of logits, written so that LLVM vectorises every loop.

Flows in    float32 rows of scratch, changed in place
Knows not   keys, values, heads. Relative error of `exp` ≤ 2·10⁻⁷; −inf and NaN keep their meaning: only the
            freedoms named in REORDER are granted to the compiler.
"""

from __future__ import annotations

import math

import numpy as np

from keyvalise.ops.fast import bits
from keyvalise.ops.fast.inlined import inlined

REORDER = {"contract", "reassoc", "nsz", "arcp"}
"""Sums may be reordered and fused; infinities and NaN stay real."""

NOTHING = np.float32(-np.inf)
ZERO, ONE, TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)

_LOWEST = np.float32(-87.0)
_PER_LN2 = np.float32(1.0 / math.log(2.0))
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(math.log(2.0) - 0.693359375)
_ROUND = np.float32(1.5 * 2**23)
# Chebyshev fits made for this file: (eʳ − 1 − r) / r² on |r| ≤ ln2 / 2; (tanh y − y) / y³ in y², |y| ≤ 0.625.
_E2, _E3, _E4 = np.float32(0.5), np.float32(0.16666576266), np.float32(0.041666463017)
_E5, _E6 = np.float32(0.0083632357418), np.float32(0.0013933733571)
_T3, _T5, _T7 = np.float32(-0.3333333134651), np.float32(0.1333290040493), np.float32(-0.0538700595498)
_T9, _T11 = np.float32(0.0210849288851), np.float32(-0.0062204087153)
_SMALL = np.float32(0.625)


@inlined(fastmath={"contract"})
def exp(x):  # type: ignore[no-untyped-def]
    """eˣ for x ≤ 0; 0 below −87. Reordering would undo the rounding trick, so it is not allowed here."""
    shifted = x * _PER_LN2 + _ROUND
    n = shifted - _ROUND
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    tail = (((_E6 * r + _E5) * r + _E4) * r + _E3) * r + _E2
    value = (tail * (r * r) + (r + ONE)) * bits.power(shifted)
    return ZERO if x < _LOWEST else value


@inlined(fastmath={"contract"})
def tanh(y):  # type: ignore[no-untyped-def]
    """tanh y, with full relative accuracy near 0."""
    size = abs(y)
    e = exp(-(size + size))
    large = (ONE - e) / (ONE + e)
    z = y * y
    small = y + y * z * ((((_T11 * z + _T9) * z + _T7) * z + _T5) * z + _T3)
    return small if size < _SMALL else (large if y > ZERO else -large)


@inlined(fastmath=REORDER)
def cap_(x, n, softcap):  # type: ignore[no-untyped-def]
    """x ← softcap·tanh(x / softcap)."""
    for t in range(n):
        x[t] = softcap * tanh(x[t] / softcap)


@inlined(fastmath=REORDER)
def shift_(x, n, logw):  # type: ignore[no-untyped-def]
    """x ← x + logw; −inf wins even over NaN."""
    for t in range(n):
        x[t] = NOTHING if logw[t] == NOTHING else x[t] + logw[t]


@inlined
def highest(x, n):  # type: ignore[no-untyped-def]
    """Largest of x, −inf if n = 0. A NaN may be missed here: the weights spread it."""
    top = NOTHING
    for t in range(n):
        top = bits.larger(x[t], top)
    return top


@inlined(fastmath=REORDER)
def weigh_(x, n, top):  # type: ignore[no-untyped-def]
    """x ← exp(x − top); returns the sum."""
    total = ZERO
    for t in range(n):
        weight = exp(x[t] - top)
        x[t] = weight
        total += weight
    return total


@inlined
def has_nothing(x, n):  # type: ignore[no-untyped-def]
    """Whether some x is −inf."""
    found = False
    for t in range(n):
        found |= x[t] == NOTHING
    return found


@inlined(fastmath=REORDER)
def add_(to, share, x, n):  # type: ignore[no-untyped-def]
    """to ← to + share·x over the first n numbers."""
    for d in range(n):
        to[d] += share * x[d]


@inlined(fastmath=REORDER)
def fade_(x, factor, n):  # type: ignore[no-untyped-def]
    """x ← factor·x over the first n numbers."""
    for d in range(n):
        x[d] *= factor


@inlined
def fill_(x, value, n):  # type: ignore[no-untyped-def]
    """x ← value over the first n numbers."""
    for d in range(n):
        x[d] = value
