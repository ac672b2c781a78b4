"""Indices into a codebook as bytes: bit fields where it has a power of two codewords, words of digits where
not, or fields of which every pattern is an index.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from keyvalise.ops import bitpack, radix, resbit

How = Literal["packed", "resbit"]


def width(m: int, n: int, how: str = "packed") -> int:
    """Bytes of m indices below n."""
    if how == "resbit":
        return sum(bitpack.width(m, bits) for bits in resbit.widths(n))
    return bitpack.width(m, _bits(n)) if _is_power(n) else radix.width(m, n)


def write(indices: Tensor, n: int, how: str = "packed") -> Tensor:
    """Indices below n as bytes.

    Shapes   indices int [N, m] → uint8 [N, width(m, n, how)]
    """
    if how == "resbit":
        fields = zip(resbit.split(indices, n), resbit.widths(n), strict=True)
        return torch.cat([bitpack.pack_bits(field, bits) for field, bits in fields], -1)
    return bitpack.pack_bits(indices, _bits(n)) if _is_power(n) else radix.pack(indices, n)


def read(packed: Tensor, n: int, m: int, how: str = "packed") -> Tensor:
    """The indices again.

    Shapes   packed uint8 [N, width(m, n, how)] → int32 [N, m]
    """
    if how == "resbit":
        widths = resbit.widths(n)
        parts = packed.split([bitpack.width(m, bits) for bits in widths], -1)
        fields = zip(parts, widths, strict=True)
        return resbit.total([bitpack.unpack_bits(part, bits, m) for part, bits in fields]).int()
    return bitpack.unpack_bits(packed, _bits(n), m) if _is_power(n) else radix.unpack(packed, n, m)


def _is_power(n: int) -> bool:
    return n & (n - 1) == 0


def _bits(n: int) -> int:
    return n.bit_length() - 1
