"""Digits below any number, several of them in a few bytes: five digits below 3 fit into one."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 7
"""Bytes of a word: what int64 holds without its sign."""


def words(m: int, n: int) -> list[tuple[int, int]]:
    """(digits, bytes) of the words that m digits below n are written in: all but the last alike, and as large
    as makes them the fewest bytes.
    """
    sizes = {digits: _size(digits, n) for digits in range(1, min(m, 8 * LARGEST) + 1)}
    best = min(
        (digits for digits, size in sizes.items() if size <= LARGEST),
        key=lambda digits: m // digits * sizes[digits] + sizes.get(m % digits, 0),
    )
    rest = [(m % best, sizes[m % best])] if m % best else []
    return [(best, sizes[best])] * (m // best) + rest


def width(m: int, n: int) -> int:
    """Bytes of m digits below n."""
    return sum(size for _, size in words(m, n))


def pack(codes: Tensor, n: int) -> Tensor:
    """Digits below n into bytes.

    Shapes   codes int [..., m] → uint8 [..., width(m, n)]
    Formula  word = Σ digit_i·nⁱ, its lowest byte first
    """
    layout, packed = words(codes.shape[-1], n), []
    for part, (digits, size) in zip(codes.long().split([d for d, _ in layout], -1), layout, strict=True):
        word = (part * n ** torch.arange(digits, device=codes.device)).sum(-1, keepdim=True)
        packed.append((word >> 8 * torch.arange(size, device=codes.device) & 255).to(torch.uint8))
    return torch.cat(packed, -1)


def unpack(packed: Tensor, n: int, m: int) -> Tensor:
    """The digits again; int32 [..., m]."""
    layout, codes = words(m, n), []
    for part, (digits, size) in zip(packed.split([s for _, s in layout], -1), layout, strict=True):
        word = (part.long() << 8 * torch.arange(size, device=packed.device)).sum(-1, keepdim=True)
        codes.append((word // n ** torch.arange(digits, device=packed.device) % n).int())
    return torch.cat(codes, -1)


def _size(digits: int, n: int) -> int:
    """Bytes of a word of so many digits."""
    largest: int = n**digits - 1
    return -(-largest.bit_length() // 8)
