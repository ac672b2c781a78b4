"""Frequency tables of three bell shapes over whole numbers, each named by two small integers.

    family   0 Laplace, 1 logistic, 2 Gaussian, all around 0
    scale    i: half the mass lies about within ±0.7·s … of the mean size s = 2^((i − 18) / 4) of the numbers
    symbol   q + MOST for −MOST ≤ q ≤ MOST, ESCAPE for every number the table does not list

A table costs nothing but its two integers, and every machine makes the same ones.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from keyvalise.ops import frequencies, steady
from keyvalise.ops.frequencies import Tables

Floats = npt.NDArray[np.float64]

FAMILIES, SCALES = 3, 31
MOST = 72
ESCAPE = 2 * MOST + 1
N_SYMBOLS = ESCAPE + 1

_ROOT = float(np.sqrt(np.sqrt(2.0)))
SIZES = tuple(2.0 ** (i // 4 - 5) * _ROOT ** (i % 4) for i in range(2, SCALES + 2))
"""The mean size of every scale, before rounding to whole numbers."""

_SUB = 64
_RARE = 2.0**-14
"""Numbers rarer than this go to the escape."""

_WHOLE = 2.0**36


def index(family: npt.NDArray[np.int64], scale: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Where tables stand."""
    return family * SCALES + scale


@functools.cache
def masses() -> Floats:
    """The probability of every number [FAMILIES · SCALES, 2·MOST + 1]; what is missing to 1 lies beyond."""
    numbers = np.arange(-MOST, MOST + 1, dtype=np.float64)
    shapes = (_laplace, _logistic, _gaussian)
    return np.stack([shape(numbers, size) for shape in shapes for size in SIZES])


@functools.cache
def tables() -> Tables:
    """The tables of all families and scales."""
    return Tables.of(frequencies.normalize(_weights(masses())))


@functools.cache
def expected() -> npt.NDArray[np.int64]:
    """The mean size of a table's numbers, in 256ths, at least 1."""
    numbers = np.abs(np.arange(-MOST, MOST + 1, dtype=np.float64))
    total = np.zeros(FAMILIES * SCALES)
    for column, number in zip(masses().T, numbers, strict=True):
        total = total + column * number
    return np.maximum(np.floor(total * 256 + 0.5), 1).astype(np.int64)


def _weights(mass: Floats) -> npt.NDArray[np.int64]:
    """Whole weights of numbers and escape, the rare ones given to the escape."""
    listed = np.where(mass >= _RARE, mass, 0.0)
    whole = np.floor(listed * _WHOLE + 0.5).astype(np.int64)
    escape = np.maximum(int(_WHOLE) - whole.sum(1, keepdims=True), 1)
    return np.concatenate([whole, escape], 1)


def _laplace(q: Floats, size: float) -> Floats:
    """Density e^(−|x| / s) / 2s, the mass of q ± ½."""
    near = steady.exp(np.array([-0.5 / size]))
    far = (
        0.5
        * steady.exp(-np.maximum(np.abs(q) - 0.5, 0.0) / size)
        * (1.0 - steady.exp(np.array([-1.0 / size])))
    )
    return np.where(q == 0, 1.0 - near, far)


def _logistic(q: Floats, size: float) -> Floats:
    """Distribution 1 / (1 + e^(−x/b)) with b = s / (2 ln 2), the mass of q ± ½."""
    scale = size / (2 * 0.6931471805599453)

    def tail(x: Floats) -> Floats:
        e = steady.exp(-x / scale)
        return e / (1.0 + e)

    far = tail(np.maximum(np.abs(q) - 0.5, 0.0)) - tail(np.abs(q) + 0.5)
    return np.where(q == 0, 1.0 - 2.0 * tail(np.full(len(q), 0.5)), far)


def _gaussian(q: Floats, size: float) -> Floats:
    """Density e^(−x² / 2σ²) / σ√(2π) with σ = s·√(π/2), summed over _SUB points in q ± ½."""
    sigma = size * 1.2533141373155003
    total = np.zeros(len(q))
    for i in range(_SUB):
        x = (np.abs(q) - 0.5 + (i + 0.5) / _SUB) / sigma
        total = total + steady.exp(-0.5 * x * x)
    return total / (sigma * 2.5066282746310002 * _SUB)
