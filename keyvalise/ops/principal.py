"""Principal components of tokens, in blocks of channels: what makes channels nearly independent.

Keys before rotation and values are linear images of the same hidden state, so their channels are far from
independent: turned to principal components, most of them carry next to nothing.

    x [N, C] → y = Bᵀ x, block by block; B orthonormal, written as mirrors (`ops.reflect`)

A wider block takes more out and costs more to write; which one pays depends on N alone and is decided here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops import reflect
from keyvalise.ops.fast import reflect as fast

Singles = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

ACTIVE = 0.35
"""A component is worth writing from this share of a step on; below, its absence costs less than it."""

WIDEST = 512
"""Channels of the widest block."""

_PRECISION = 4.4
MOST_BITS = 8
"""Of a mirror's numbers."""


@dataclass(frozen=True, eq=False)
class Block:
    """The mirrors of one block and the precision of each; both are prefixes of longer ones."""

    width: int
    numbers: reflect.Numbers
    bits: npt.NDArray[np.int32]

    @property
    def rank(self) -> int:
        return len(self.numbers)

    @functools.cached_property
    def matrix(self) -> Singles:
        """The basis [width, rank]."""
        return fast.basis(self.numbers, self.width, self.bits)

    def cut(self, first: int, end: int) -> Block:
        """Mirrors first … end − 1."""
        return Block(self.width, self.numbers[first:end], self.bits[first:end])


def covariance(x: Singles) -> Doubles:
    """xᵀx / N."""
    return (x.T @ x).astype(np.float64) / max(len(x), 1)


def choose(moments: Doubles, n: int, widths: Sequence[int], step: float) -> int:
    """The block width that makes n tokens at a step cheapest, its own bytes included; 1: no turning at all.

    Formula   Σ_j n·½ log₂(1 + 17·(σ_j / step)²) + Σ_{j active} (width − 1 − j)·(precision of j + 1)
    """
    costs = {1: _rate(np.diag(moments), n, step)}
    for width in widths:
        cost = 0.0
        for first in range(0, len(moments), width):
            block = moments[first : first + width, first : first + width]
            variances = np.maximum(np.linalg.eigvalsh(block)[::-1], 0.0)
            rank = int((variances >= (ACTIVE * step) ** 2).sum())
            sizes = np.arange(width - 1, width - 1 - rank, -1)
            cost += _rate(variances, n, step) + float((sizes * (precision(variances[:rank]) + 1)).sum())
        costs[width] = cost
    return min(costs, key=lambda width: costs[width])


def fit(moments: Doubles, least: float) -> Block:
    """The mirrors of all components of a block whose deviation reaches `least`."""
    variances, vectors = np.linalg.eigh(moments)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    rank = int((variances >= least**2).sum())
    bits = precision(variances[:rank])
    return Block(len(moments), reflect.fit(vectors[:, :rank], bits), bits)


def precision(variances: Doubles) -> npt.NDArray[np.int32]:
    """Bits of every mirror: what a loud component leaks into the others must stay below a step."""
    bits = np.rint(_PRECISION + 0.5 * np.log2(np.maximum(variances, 1e-12)))
    return np.clip(bits, 1, MOST_BITS).astype(np.int32)


def _rate(variances: Doubles, n: int, step: float) -> float:
    return n * float(0.5 * np.log2(1.0 + 17.0 * np.maximum(variances, 0.0) / step**2).sum())
