"""Codes of any width up to 16 bits as one stream of bits per row.

Layout   code i takes the bits i·bits … (i + 1)·bits − 1 of its row, the lowest first; a row is whole bytes,
         ⌈m·bits/8⌉ of them, and the bits behind its last code are zero
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WIDEST = 16


def width(m: int, bits: int) -> int:
    """Bytes of m codes of `bits` bits."""
    return -(-m * bits // 8)


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Codes below 2^bits into bytes.

    Shapes   codes int [..., m] → uint8 [..., ⌈m·bits/8⌉]
    Raises   ValueError for bits outside 1 … 16
    """
    n_codes, n_bytes = _period(bits)
    m = codes.shape[-1]
    periods = -(-m // n_codes)
    wide = torch.nn.functional.pad(codes.int(), (0, periods * n_codes - m))
    wide = wide.unflatten(-1, (periods, n_codes))
    packed = torch.zeros((*wide.shape[:-1], n_bytes), dtype=torch.uint8, device=codes.device)
    for i in range(n_codes):
        for byte, shift in _places(i, bits):
            part = wide[..., i] << shift if shift >= 0 else wide[..., i] >> -shift
            packed[..., byte] |= (part & 255).to(torch.uint8)
    # A narrowed view would hold the whole storage.
    return packed.flatten(-2)[..., : width(m, bits)].clone(memory_format=torch.contiguous_format)


def unpack_bits(packed: Tensor, bits: int, m: int, dtype: torch.dtype = torch.int32) -> Tensor:
    """The codes again.

    Shapes   packed uint8 [..., ⌈m·bits/8⌉] → [..., m] in `dtype`: int32, or uint8 where codes have up to 8
             bits, which takes a quarter of the room
    Raises   ValueError for bits outside 1 … 16
    """
    n_codes, n_bytes = _period(bits)
    if n_codes == n_bytes == 1:
        return packed.to(dtype)
    periods = -(-m // n_codes)
    filled = torch.nn.functional.pad(packed, (0, periods * n_bytes - packed.shape[-1]))
    filled = filled.unflatten(-1, (periods, n_bytes))
    codes = torch.zeros((*filled.shape[:-1], n_codes), dtype=dtype, device=packed.device)
    for i in range(n_codes):
        for byte, shift in _places(i, bits):
            part = filled[..., byte].to(dtype)
            codes[..., i] |= part >> shift if shift >= 0 else part << -shift
    codes &= (1 << bits) - 1
    return codes.flatten(-2)[..., :m]


def _period(bits: int) -> tuple[int, int]:
    """(codes, bytes) after which a code begins at a byte again."""
    if not 1 <= bits <= WIDEST:
        raise ValueError(f"a code has 1 to {WIDEST} bits, got {bits}")
    return 8 // math.gcd(8, bits), bits // math.gcd(8, bits)


def _places(i: int, bits: int) -> list[tuple[int, int]]:
    """(byte, how far to the left the code lies in it) of every byte that code i of a period touches."""
    first, last = i * bits // 8, ((i + 1) * bits - 1) // 8
    return [(byte, i * bits - 8 * byte) for byte in range(first, last + 1)]
