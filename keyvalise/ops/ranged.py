"""Vectors on levels between their own smallest and largest number, and what is left on finer levels still."""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import affine, bitpack, pack


def encode(x: Tensor, bits: int, second: int = 0) -> dict[str, Tensor]:
    """Every row by itself.

    Shapes   x [N, D] → "codes" uint8 [N, ⌈D·bits/8⌉], "scales" float16 [N, 2] (step, offset), and with a
             second level "second" uint8 [N, ⌈D·second/8⌉]
    Formula  q = round((x − offset)/step), offset = min x, step = (max x − offset)/(2^bits − 1);
             q₂ = round((x − offset − step·q + step/2)/step₂), step₂ = step/(2^second − 1)
    """
    x = x.float()
    scales = affine.fit(x, bits)
    step, offset = scales[:, :1], scales[:, 1:]
    codes = affine.quantize(x, step, offset, bits)
    written = {"codes": _packed(codes, bits), "scales": scales}
    if second:
        rest = x - affine.dequantize(codes, step, offset)
        finer = step.float() / (2**second - 1)
        codes = affine.quantize(rest, finer, -step.float() / 2, second)
        written["second"] = _packed(codes, second)
    return written


def decode(written: dict[str, Tensor], bits: int, second: int, dim: int) -> Tensor:
    """The rows again: float32 [N, dim]."""
    step, offset = written["scales"].float().split(1, -1)
    x = torch.addcmul(offset, _unpacked(written["codes"], bits, dim).float(), step)
    if second:
        finer = _unpacked(written["second"], second, dim).float()
        x += finer * (step / (2**second - 1)) - step / 2
    return x


def width(dim: int, bits: int, second: int) -> int:
    """Bytes of one vector, step and offset counted."""
    return bitpack.width(dim, bits) + (bitpack.width(dim, second) if second else 0) + 4


def _packed(codes: Tensor, bits: int) -> Tensor:
    """In planes where these are whole, as attention that reads integers in place wants them."""
    return bitpack.pack_bits(codes, bits) if 8 % bits else pack.pack(codes, bits)


def _unpacked(packed: Tensor, bits: int, dim: int) -> Tensor:
    """uint8 [..., dim]."""
    return bitpack.unpack_bits(packed, bits, dim, torch.uint8) if 8 % bits else pack.unpack(packed, bits, dim)
