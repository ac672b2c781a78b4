"""Vectors of any size, made alike and written two numbers at a time as the nearest of a few points.

Layout   pair i of a row is its mixed channels 2i, 2i + 1; its index takes the bits i·b … of the row's
         bytes, where 2^b is the number of points
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import bitpack, hadamard, octets

LARGEST_BLOCK = 1024
"""Channels that are mixed with one another at most."""

MOST = 65504.0
"""The largest float16."""


def padded(dim: int) -> int:
    """Numbers of a row that are written for `dim`: whole blocks of a power of two."""
    block = _block(dim)
    return -(-dim // block) * block


def width(dim: int, n_points: int) -> int:
    """Bytes of a row's codes."""
    return bitpack.width(padded(dim) // 2, bits(n_points))


def bits(n_points: int) -> int:
    """Bits of an index."""
    return (n_points - 1).bit_length()


def write(x: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The codes of rows and their scales.

    Shapes   x float32 [N, D], points float32 [n, 2] → uint8 [N, W], float16 [N]
    Formula  y = H·x·√D/‖x‖, c the points nearest to y pair by pair, scale = ⟨y, c⟩/⟨c, c⟩·‖x‖/√D, which errs
             least for these points
    """
    y = _mixed(x)
    size = y.square().mean(-1, keepdim=True).sqrt()
    y = y / size.clamp(min=torch.finfo(torch.float32).tiny)
    index = octets.nearest(y.view(-1, 2), points.float())
    near = points.float()[index].view(y.shape)
    scale = (y * near).sum(-1) / near.square().sum(-1) * size[:, 0]
    packed = bitpack.pack_bits(index.view(y.shape[0], -1), bits(len(points)))
    return packed, scale.clamp(-MOST, MOST).half()


def read(codes: Tensor, scale: Tensor, points: Tensor, dim: int) -> Tensor:
    """The rows again: float32 [N, dim]."""
    index = bitpack.unpack_bits(codes, bits(len(points)), padded(dim) // 2)
    y = points.float()[index.long()].flatten(1) * scale.float()[:, None]
    return _mixed(y)[:, :dim]


def _block(dim: int) -> int:
    return min(LARGEST_BLOCK, 1 << (dim - 1).bit_length())


def _mixed(x: Tensor) -> Tensor:
    """Blocks of a power of two turned by the Hadamard matrix, zeros behind the last channel."""
    dim = x.shape[-1]
    wide = torch.nn.functional.pad(x.float(), (0, padded(dim) - dim))
    return hadamard.rotate(wide.unflatten(-1, (-1, _block(dim)))).flatten(-2)
