"""Eight numbers at a time as the nearest of 256 vectors, with their signs aside (2 bits) or not (1 bit).

Piece p of a row is its channels 8p … 8p + 7. Positive vectors are matched with sizes; a second byte per piece
then holds the signs: bit k is 1 where channel k is not negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import closest

SIZE = 8
"""Numbers of a piece."""


def n_pieces(dim: int) -> int:
    """Pieces that a vector of `dim` numbers falls into; the last may be filled with zeros."""
    return -(-dim // SIZE)


@dataclass(frozen=True, slots=True)
class Book:
    """vectors [256, 8];  bits: 1 for signed vectors, 2 for positive ones and signs aside."""

    vectors: Tensor
    bits: int

    def encode(self, x: Tensor) -> Tensor:
        """The codes of rows.

        Shapes   x [N, 8P] → uint8 [N, P·bits], indices, then signs
        """
        pieces = x.unflatten(-1, (-1, SIZE))
        sizes = pieces.abs() if self.bits == 2 else pieces
        index = nearest(sizes.flatten(0, 1), self.vectors.to(x.dtype)).view(pieces.shape[:2]).to(torch.uint8)
        if self.bits == 1:
            return index
        return torch.cat([index, ((pieces >= 0) << _places(x)).sum(-1).to(torch.uint8)], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """What codes stand for: uint8 [N, P·bits] → float32 [N, 8P]."""
        n = codes.shape[-1] // self.bits
        pieces = self.vectors.float()[codes[:, :n].int()]
        if self.bits == 2:
            is_positive = (codes[:, n:, None] >> _places(codes)) & 1
            pieces = pieces * (2.0 * is_positive - 1)
        return pieces.flatten(-2)


def nearest(pieces: Tensor, vectors: Tensor) -> Tensor:
    """int64 [M]: for each of M pieces the vector c with the largest ⟨x, c⟩ − ‖c‖²/2, which is the nearest."""
    return closest.best(pieces[None], vectors[None], vectors.square().sum(-1)[None] / 2)[0][0]


def _places(x: Tensor) -> Tensor:
    return torch.arange(SIZE, device=x.device, dtype=torch.uint8)
