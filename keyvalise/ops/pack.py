"""Small codes side by side in bytes.

Layout   W = ⌈D·bits/8⌉ bytes for D codes; channel c lies in byte c mod W, at bit bits·(c // W): every plane
         of W channels is one shift away, so that unpacking is a concatenation
"""

from __future__ import annotations

import torch
from torch import Tensor


def width(dim: int, bits: int) -> int:
    """Bytes of `dim` codes of `bits` bits (a divisor of 8)."""
    return -(-dim * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits into bytes.

    Shapes   codes uint8 [..., D] → uint8 [..., W]; unused bits are zero
    """
    planes, n_bytes = 8 // bits, width(codes.shape[-1], bits)
    if planes == 1:
        return codes.clone()
    codes = torch.nn.functional.pad(codes, (0, n_bytes * planes - codes.shape[-1]))
    packed = codes[..., :n_bytes].clone()
    for plane in range(1, planes):
        packed |= codes[..., plane * n_bytes : (plane + 1) * n_bytes] << (plane * bits)
    return packed


def unpack(packed: Tensor, bits: int, dim: int) -> Tensor:
    """The codes again.

    Shapes   packed uint8 [..., W] → uint8 [..., dim]
    """
    planes = 8 // bits
    if planes == 1:
        return packed
    mask = 2**bits - 1
    return torch.cat([(packed >> (plane * bits)) & mask for plane in range(planes)], -1)[..., :dim]
