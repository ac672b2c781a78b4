"""Integers whose offset is found by half-quadratic steps: errors that are few and large weigh little."""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import affine

STEPS = 20
POWER, SHARPNESS, GROWTH = 0.7, 10.0, 1.01
"""p of the error |x − x̂|^p, β of the first step, and how much it grows from one to the next."""


def fit(x: Tensor, bits: int) -> Tensor:
    """Step and offset of every group.

    Shapes   x float32 [..., G] → float16 [..., 2] (step, offset)
    Formula  from minimum and maximum, with s the step: q = round((x − o)/s);  e = shrink(x − o − s·q);
             o ← mean(x − e − s·q).  shrink(u) = sign(u)·max(0, |u| − |u|^(p−1)/β), in steps of s.  Of all
             offsets met the one with the least mean |x − x̂|^p, beginning with that of the minimum. An offset
             under which nothing is code 0 or nothing the last code is passed over: so coding what was decoded
             finds step and offset again
    """
    best = affine.fit(x, bits)
    step, offset = best[..., :1].float(), best[..., 1:].float()
    step, sharpness = step.masked_fill(step == 0, 1), SHARPNESS
    least = _error(x, _codes(x, best, bits), best)
    for _ in range(STEPS):
        codes = _codes(x, torch.cat([best[..., :1], offset.half()], -1), bits).float()
        error = (x - offset - step * codes) / step
        kept = (error.abs() - error.abs().pow(POWER - 1) / sharpness).clamp(min=0) * error.sign()
        offset = (x - step * (kept + codes)).mean(-1, keepdim=True)
        sharpness *= GROWTH
        tried = torch.cat([best[..., :1], offset.half()], -1)
        written = _codes(x, tried, bits)
        found = _error(x, written, tried)
        is_whole = (written.amin(-1) == 0) & (written.amax(-1) == 2**bits - 1)
        is_better = (found < least) & is_whole
        best = torch.where(is_better[..., None], tried, best)
        least = torch.where(is_better, found, least)
    return best


def encode(x: Tensor, bits: int, channels: int) -> tuple[Tensor, Tensor]:
    """Every row by itself, in groups of channels.

    Shapes   x [N, D] → codes uint8 [N, D], parameters float16 [N, groups, 2] (step, offset)
    """
    n, dim = x.shape
    groups = affine.n_groups(dim, channels)
    size = -(-dim // groups)
    wide = torch.cat([x.float(), x[:, -1:].float().expand(-1, groups * size - dim)], 1).view(n, groups, size)
    scales = fit(wide, bits)
    return _codes(wide, scales, bits).flatten(1)[:, :dim], scales


def decode(codes: Tensor, scales: Tensor) -> Tensor:
    """The rows again: float32 [N, D] of codes [N, D]."""
    (n, dim), groups = codes.shape, scales.shape[1]
    size = -(-dim // groups)
    codes = torch.nn.functional.pad(codes, (0, groups * size - dim)).view(n, groups, size)
    return affine.dequantize(codes, scales[..., :1], scales[..., 1:]).flatten(1)[:, :dim]


def _codes(x: Tensor, scales: Tensor, bits: int) -> Tensor:
    return affine.quantize(x, scales[..., :1], scales[..., 1:], bits)


def _error(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Mean |x − x̂|^p of every group."""
    again = affine.dequantize(codes, scales[..., :1], scales[..., 1:])
    return (x - again).abs().pow(POWER).mean(-1)
