"""The orthonormal Hadamard rotation, in blocks where a size is no power of two."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


def rotate(x: Tensor) -> Tensor:
    """x·H along the last axis; H is symmetric and orthonormal, so twice is once back.

    Shapes   x [..., D] → [..., D], at least float32
    Formula  blocks of the powers of two that make up D, the largest first; each is turned by the Sylvester
             matrix of its size over its root
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    sizes = blocks(x.shape[-1])
    parts = [_turned(part) for part in x.split(sizes, -1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


@functools.cache
def matrix(dim: int) -> Tensor:
    """H, float32 [D, D]."""
    return rotate(torch.eye(dim))


def blocks(dim: int) -> list[int]:
    """The powers of two that add up to `dim`, the largest first."""
    return [1 << bit for bit in reversed(range(dim.bit_length())) if dim >> bit & 1]


def _turned(x: Tensor) -> Tensor:
    """The fast transform of a power of two: sums and differences of halves, log D times."""
    shape, dim = x.shape, x.shape[-1]
    half = 1
    while half < dim:
        pairs = x.reshape(*shape[:-1], dim // (2 * half), 2, half)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        x = torch.stack([a + b, a - b], -2).reshape(shape)
        half *= 2
    return x * float(dim**-0.5)
