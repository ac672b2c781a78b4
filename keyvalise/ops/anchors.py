"""Differences to anchor tokens: the first of every ten stays, the others are written relative to it.

Differences of codes, not of numbers, so nothing is lost and levels stay nested. They pay where neighbouring
tokens resemble one another by more than half their variance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]

EVERY = 10


def subtract(codes: Codes) -> Codes:
    """Codes [R, N] with all but the anchors made relative."""
    places = np.arange(codes.shape[1])
    return np.where(places % EVERY == 0, codes, codes - codes[:, places - places % EVERY])


def add(differences: Codes) -> Codes:
    """The codes again."""
    places = np.arange(differences.shape[1])
    is_anchor = places % EVERY == 0
    return np.where(is_anchor, differences, differences + differences[:, places - places % EVERY])
