"""Frequency tables of how far a number's bin lies from its prediction's, given where in its bin that lies.

family   as in `densities`;  size: deviation 2^(i / 4) bins, i < SIZES;  place: sixteenth of the bin
symbol   d + MOST, or ESCAPE
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from keyvalise.ops import frequencies, steady
from keyvalise.ops.densities import ESCAPE, FAMILIES, MOST
from keyvalise.ops.frequencies import Tables

SIZES, PLACES = 4, 16
N_TABLES = FAMILIES * SIZES * PLACES

_SUB = 64
_WHOLE = 2.0**36
_RARE = 2.0**-14
_ROOT = float(np.sqrt(np.sqrt(2.0)))
_RATES = (1.4142135623730951, 1.8137993642342178, 1.0)
"""Deviation of a shape over its own scale: √2, π / √3, 1."""


def index(
    family: int, size: npt.NDArray[np.integer], place: npt.NDArray[np.integer]
) -> npt.NDArray[np.integer]:
    """Where tables stand."""
    return (family * SIZES + size) * PLACES + place


@functools.cache
def tables() -> Tables:
    """All tables; every machine makes the same ones."""
    numbers = np.arange(-MOST, MOST + 1, dtype=np.float64)
    rows = [
        _mass(numbers, family, _ROOT**size / _RATES[family], (place + 0.5) / PLACES)
        for family in range(FAMILIES)
        for size in range(SIZES)
        for place in range(PLACES)
    ]
    mass = np.stack(rows)
    whole = np.floor(np.where(mass >= _RARE, mass, 0.0) * _WHOLE + 0.5).astype(np.int64)
    escape = np.maximum(int(_WHOLE) - whole.sum(1, keepdims=True), 1)
    return Tables.of(frequencies.normalize(np.concatenate([whole, escape], 1)))


def _mass(
    numbers: npt.NDArray[np.float64], family: int, scale: float, place: float
) -> npt.NDArray[np.float64]:
    """Of [d, d + 1) around `place`, summed over _SUB points and made to sum to 1."""
    total = np.zeros(len(numbers))
    for i in range(_SUB):
        x = np.abs(numbers + (i + 0.5) / _SUB - place) / scale
        e = steady.exp(-0.5 * x * x if family == 2 else -x)
        total = total + (e / ((1.0 + e) * (1.0 + e)) if family == 1 else e)
    mass: npt.NDArray[np.float64] = total / total.cumsum()[-1]
    return mass


__all__ = ["ESCAPE", "MOST", "N_TABLES", "PLACES", "SIZES", "index", "tables"]
