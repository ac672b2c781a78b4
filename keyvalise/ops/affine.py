"""Rounding to evenly spaced levels between the smallest and the largest number of a group.

The smallest number becomes code 0 and the largest the last code, whatever float16 does to the two parameters;
so encoding what was decoded (in float32) finds the same parameters and the same codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import pack
from keyvalise.ops.fast import affine as fast
from keyvalise.ops.halves import HAIR, LARGEST, NARROW


def fit(x: Tensor, bits: int, dim: int = -1) -> Tensor:
    """Step and offset of every group.

    Shapes   x float32, groups along `dim` → float16 of x's shape without `dim`, last axis (step, offset)
    Formula  offset = min x, rounded up to float16; step = (max x − offset) / (2^bits − 1), rounded down to
             float16; step = 0 where the group is constant as far as float16 can tell
    """
    low, high = x.aminmax(dim=dim)
    # Which of two zeros is the smaller must not be a matter of their order.
    low, high = low.clamp(-LARGEST, LARGEST) + 0.0, high.clamp(-LARGEST, LARGEST)
    levels = 2**bits - 1
    offset = _up(low.half(), low)
    step = _down((high - offset.float()) / levels)
    span = levels * step.float()
    size = torch.maximum(offset.float().abs(), (offset.float() + span).abs())
    return torch.stack([step.masked_fill(span <= NARROW * size, 0), offset], -1)


def quantize(x: Tensor, step: Tensor, offset: Tensor, bits: int) -> Tensor:
    """The nearest level of every number: uint8 of x's shape; step, offset broadcast against x.

    Formula  clamp(round((x − offset) / step), 0, 2^bits − 1); 0 where step = 0
    """
    step = step.float()
    codes = ((x - offset.float()) / step.masked_fill(step == 0, torch.inf)).round()
    return codes.clamp_(0, 2**bits - 1).to(torch.uint8)


def dequantize(codes: Tensor, step: Tensor, offset: Tensor) -> Tensor:
    """offset + step · code, float32."""
    return torch.addcmul(offset.float(), codes.float(), step.float())


def n_groups(dim: int, channels: int) -> int:
    """Groups of at most `channels` channels that a vector of `dim` falls into."""
    return -(-dim // channels)


def encode_rows(x: Tensor, bits: int, channels: int) -> tuple[Tensor, Tensor]:
    """Every row by itself, in groups of channels.

    Shapes   x [N, D] → packed uint8 [N, W], parameters float16 [N, groups, 2] (step, offset)
    """
    n, dim = x.shape
    groups = n_groups(dim, channels)
    if fast.serves(x):
        return fast.encode_rows(x, bits, groups, pack.width(dim, bits))
    size = -(-dim // groups)
    # Repeating the last channel fills the last group without widening it.
    wide = torch.cat([x.float(), x[:, -1:].float().expand(-1, groups * size - dim)], 1).view(n, groups, size)
    scales = fit(wide, bits)
    codes = quantize(wide, scales[..., :1], scales[..., 1:], bits)
    return pack.pack(codes.flatten(1)[:, :dim], bits), scales


def decode_rows(packed: Tensor, scales: Tensor, bits: int, dim: int) -> Tensor:
    """The rows again: float32 [N, D]."""
    n, groups = scales.shape[:2]
    size = -(-dim // groups)
    codes = pack.unpack(packed, bits, dim)
    if groups * size > dim:
        codes = torch.nn.functional.pad(codes, (0, groups * size - dim))
    decoded = dequantize(codes.reshape(n, groups, size), scales[..., :1], scales[..., 1:])
    return decoded.flatten(1)[:, :dim]


def _up(near: Tensor, exact: Tensor) -> Tensor:
    """The smallest float16 that is not below `exact`, given the nearest one."""
    bits = near.view(torch.int16)
    above = torch.where(bits >= 0, bits + 1, bits - 1).view(torch.float16)
    return torch.where(near.float() < exact, above, near)


def _down(exact: Tensor) -> Tensor:
    """The largest float16 that is not more than a hair above `exact`, and not below zero."""
    exact = exact.clamp(min=0)
    near = exact.half()
    below = (near.view(torch.int16) - 1).view(torch.float16)
    return torch.where(near.float() > exact * HAIR, below, near)
