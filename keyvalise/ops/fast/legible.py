"""What compiled attention can read: how numbers must lie, and integers with steps and offsets."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

from keyvalise.types.code import Integers

KINDS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

LANES = 8
"""Key and value dims must be multiples of it; so must the channels that share a byte's bits, or a step."""


@functools.cache
def is_installed() -> bool:
    """Whether there is a compiler."""
    return importlib.util.find_spec("numba") is not None


def flaw(k: Tensor, v: Tensor) -> str | None:
    """Why these entries cannot be read, or None."""
    if not (k.is_cpu and v.is_cpu):
        return "keys and values must lie on the CPU"
    if k.dtype not in KINDS or k.dtype is not v.dtype:
        return f"keys and values must both be {' or '.join(KINDS.values())}; got {k.dtype} and {v.dtype}"
    if k.stride(-1) != 1 or v.stride(-1) != 1:
        return "keys and values must have stride 1 in the last axis"
    if k.shape[-1] % LANES or v.shape[-1] % LANES:
        return f"key and value dims must be multiples of {LANES}; got {k.shape[-1]} and {v.shape[-1]}"
    return None


def flaw_of(side: Integers) -> str | None:
    """Why these integers cannot be read, or None."""
    codes, scales, row_of = side.codes, side.scales, side.row_of
    n_bytes, groups = side.dim * side.bits // 8, scales.shape[1]
    width = -(-side.dim // groups)
    if not (codes.is_cpu and scales.is_cpu and (row_of is None or row_of.is_cpu)):
        return "codes must lie on the CPU"
    if side.bits not in (1, 2, 4, 8) or n_bytes % LANES or (width > 1 and width % LANES):
        return f"{side.dim} channels of {side.bits} bits in {groups} groups do not fall into {LANES} lanes"
    if codes.dtype is not torch.uint8 or codes.shape[1:] != (n_bytes,) or scales.dtype is not torch.float16:
        return (
            f"codes must be bytes [N, {n_bytes}] and scales float16; got {tuple(codes.shape)}, {scales.dtype}"
        )
    if not (codes.is_contiguous() and scales.is_contiguous()):
        return "codes and scales must be contiguous"
    if row_of is None:
        return "an entry has no scales" if len(codes) > len(scales) * side.run else None
    is_fit = row_of.dtype is torch.int32 and row_of.is_contiguous() and row_of.shape == codes.shape[:1]
    return None if is_fit else "what finds the scales must be int32 and contiguous, one per entry"
