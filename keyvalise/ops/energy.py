"""How loud a token is so far, and how near to the token that it echoes: the context of its next code.

    codes int32 [R, N]: R components of N tokens, component after component
    loud     Σ_{i<r} w_i·|q_in| / Σ_{i<r} w_i·e_i in 8 classes; e_i is to be expected, w_i = min(1, 4 / e_i)
    echoed   where Σ w_i·|q_in − q_im| is clearly smaller, m the token that n echoes, that sum's ratio in 8
             classes for every depth of the echo, and what is written is q_rn − q_rm

Tokens differ in length far more than neighbours resemble one another, and repeat themselves far more than by
chance, so these are the statistics that adapt. Sums are float32, one term after another: the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops.echo import DEPTHS, Echo

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]
Singles = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.uint8]

CLASSES = 8
BORDERS = (0.5, 0.65, 0.8, 0.95, 1.1, 1.3, 1.6)
"""Ratios from which on the next class of loudness begins."""

ECHO_BORDERS = (0.04, 0.0625, 0.1, 0.16, 0.25, 0.4, 0.63)
"""Ratios from which on the next class of echoes begins."""

ALL_CLASSES = CLASSES * (1 + DEPTHS)

PRIOR = np.float32(8)
"""Before the first component a token counts as loud as expected, with this weight."""

HOPE, TRUST = np.float32(0.25), np.float32(0.5)
"""Before the first component an echo is half as far off as a token is loud, with this weight."""

NEARER = np.float32(1.25)
"""An echo counts where it is off by less than four fifths of what is there."""

_LOUD = np.float32(4)


@dataclass(frozen=True, eq=False)
class Scales:
    """weight [R]: what one unit of |q| counts;  loud, near [R + 1, CLASSES − 1]: sums from which on the next
    class begins, before each component and behind the last.
    """

    weight: Singles
    loud: Singles
    near: Singles

    @staticmethod
    def of(expected: Whole) -> Scales:
        """By what is to be expected of every component: mean |q| in 256ths [R]."""
        mean = expected.astype(np.float32) / np.float32(256)
        weight = np.minimum(_LOUD / mean, np.float32(1))
        total = np.concatenate([np.zeros(1, np.float32), np.minimum(mean, _LOUD)]).cumsum(dtype=np.float32)
        loud = np.array(BORDERS, np.float32) * (total + PRIOR)[:, None]
        return Scales(weight, loud, np.array(ECHO_BORDERS, np.float32) * (total + TRUST)[:, None])


def classes(codes: Codes, expected: Whole, echo: Echo | None = None) -> tuple[Classes, Bools]:
    """The class of every code [R, N] by the components before it, and whether a difference is written."""
    scales = Scales.of(expected)
    loud = _sums(codes, scales.weight, PRIOR)[:-1]
    found = _class(loud, scales.loud[:-1, None])
    if echo is None:
        return found, np.zeros(codes.shape, bool)
    missed = _sums(codes - codes[:, echo.of], scales.weight, HOPE)[:-1]
    is_echoed = (echo.of >= 0) & (NEARER * missed < loud - (PRIOR - TRUST))
    near = CLASSES * (1 + echo.depth) + _class(missed, scales.near[:-1, None])
    return np.where(is_echoed, near, found).astype(np.uint8), is_echoed


def whole(codes: Codes, expected: Whole) -> Classes:
    """The class of every token [N] by all its components."""
    scales = Scales.of(expected)
    return _class(_sums(codes, scales.weight, PRIOR)[-1], scales.loud[-1])


def _sums(codes: Codes, weight: Singles, start: np.float32) -> Singles:
    """What has come before each component and behind the last [R + 1, N]."""
    sizes = np.abs(codes).astype(np.float32) * weight[:, None]
    return np.concatenate([np.full((1, codes.shape[1]), start), sizes]).cumsum(0, dtype=np.float32)


def _class(sums: Singles, limits: Singles) -> Classes:
    """How many limits [..., CLASSES − 1] each sum has reached."""
    found: Classes = (sums[..., None] >= limits).sum(-1).astype(np.uint8)
    return found
