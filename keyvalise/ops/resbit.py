"""Indices below any number in fields of bits of which every pattern is an index.

A plain binary index below K has patterns that mean nothing where K is no power of two. Here an index is the
sum of its fields, and the fields together cannot say more than K − 1: whatever changes the bits on their way,
a network that guesses them or a channel that flips them, what arrives is an index. It costs more bits than
the index needs, so it is not for storing many of them.
"""

from __future__ import annotations

import torch
from torch import Tensor


def widths(n: int) -> tuple[int, ...]:
    """Bits of every field of an index below n, the widest first.

    Formula  n − 1 = Σ (2^w − 1), each w the largest that still fits
    """
    left, found = n - 1, []
    while left:
        found.append((left + 1).bit_length() - 1)
        left -= 2 ** found[-1] - 1
    return tuple(found)


def split(indices: Tensor, n: int) -> list[Tensor]:
    """The fields of indices below n, each of the indices' shape.

    Formula  v₁ = min(x, 2^w₁ − 1), then the same with x − v₁ and the next field
    """
    fields, left = [], indices
    for bits in widths(n):
        fields.append(left.clamp(max=2**bits - 1))
        left = left - fields[-1]
    return fields


def total(fields: list[Tensor]) -> Tensor:
    """The indices that fields stand for, whatever bits are set in them."""
    return torch.stack(fields).sum(0)
