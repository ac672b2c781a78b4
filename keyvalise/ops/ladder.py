"""Nested bins: every bin of a level is exactly three of the next, so a coarse code is part of a fine one.

code q at step Δ stands for y in [q − ½, q + ½)·Δ;  the next level has Δ / 3 and the codes 3q − 1, 3q, 3q + 1
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.floating]

FACTOR = 3
LARGEST = 2**28


def quantize(y: Floats, step: float) -> Codes:
    """⌊y / step + ½⌋."""
    codes: Codes = np.clip(np.floor(y / step + 0.5), -LARGEST, LARGEST).astype(np.int32)
    return codes


def coarsen(codes: Codes, levels: int) -> Codes:
    """The codes `levels` levels before."""
    for _ in range(levels):
        codes = (codes + 1) // FACTOR
    return codes


def digits(codes: Codes, parents: Codes) -> npt.NDArray[np.uint8]:
    """What the next level adds: 0, 1, 2, counted away from zero, so that 0 is the likeliest but for parent 0.

    Formula  q = 3·parent + s·(digit − 1), s = −1 where the parent is negative, else 1
    """
    return (((codes - FACTOR * parents) * _signs(parents)) + 1).astype(np.uint8)


def refine(parents: Codes, digit: npt.NDArray[np.uint8]) -> Codes:
    """The codes of the next level."""
    return FACTOR * parents + _signs(parents) * (digit.astype(np.int32) - 1)


def _signs(parents: Codes) -> Codes:
    return np.where(parents < 0, -1, 1).astype(np.int32)


def centres(codes: Codes, y: Floats, step: float) -> tuple[int, int]:
    """How far the numbers of a bin lie beyond its middle on average, in 256ths of it: of ±1, of others."""
    sizes = np.abs(codes)
    beyond = np.abs(y) / step - sizes
    means = [float(beyond[where].mean()) if where.any() else 0.0 for where in (sizes == 1, sizes > 1)]
    first, others = (int(np.clip(np.rint(256 * mean), -127, 127)) for mean in means)
    return first, others


def restore(codes: Codes, step: float, centre: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Δ·(q ± centre / 256), float32; the same bits everywhere."""
    first, others = (np.float32(part / 256) for part in centre)
    sizes = np.abs(codes)
    shift = np.where(sizes == 1, first, others) * np.sign(codes).astype(np.float32)
    numbers: npt.NDArray[np.float32] = (codes.astype(np.float32) + shift) * np.float32(step)
    return numbers
