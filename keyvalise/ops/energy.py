"""How loud a token is so far, relative to what was to be expected: the context of its next code.

    codes int32 [R, N]: R components of N tokens, component after component
    class of (r, n): 0 … CLASSES − 1 by Σ_{i<r} w_i·|q_in| / Σ_{i<r} w_i·e_i, whole numbers throughout

Tokens differ in length far more than neighbours resemble one another, so this is the statistic that adapts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

CLASSES = 8
PRIOR = 8 * 256
"""Before the first component a token counts as loud as expected, with this weight."""

LOUDEST = 4095
_LOUD = 4 * 256
_BORDERS = (0.5, 0.65, 0.8, 0.95, 1.1, 1.3, 1.6)

SHIFT = 27
CLASS = np.searchsorted(np.array(_BORDERS) * 32, np.arange(128), side="right").astype(np.uint8)
"""Class of a ratio in 32nds."""


def weights(expected: Whole) -> tuple[Whole, Whole]:
    """What one unit of |q| counts, and the inverse of what is to be expected before each component.

    Shapes   expected [R]: mean |q| in 256ths → weights [R] in 256ths, inverses [R + 1] = 2³² / expected sum
    """
    weight = np.where(expected <= _LOUD, 256, 256 * _LOUD // np.maximum(expected, 1))
    total = np.concatenate([[0], np.minimum(expected, _LOUD).cumsum()]) + PRIOR
    return weight, (1 << 32) // total


def classes(codes: Codes, expected: Whole) -> npt.NDArray[np.uint8]:
    """The class of every code [R, N] by the components before it."""
    weight, inverse = weights(expected)
    sizes = np.minimum(np.abs(codes), LOUDEST) * weight[:, None]
    before = sizes.cumsum(0) - sizes + PRIOR
    found: npt.NDArray[np.uint8] = CLASS[np.minimum((before * inverse[:-1, None]) >> SHIFT, 127)]
    return found


def whole(codes: Codes, expected: Whole) -> npt.NDArray[np.uint8]:
    """The class of every token [N] by all its components."""
    weight, inverse = weights(expected)
    total = (np.minimum(np.abs(codes), LOUDEST) * weight[:, None]).sum(0) + PRIOR
    found: npt.NDArray[np.uint8] = CLASS[np.minimum((total * inverse[-1]) >> SHIFT, 127)]
    return found
