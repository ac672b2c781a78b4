"""What compiled attention can read: how numbers must lie."""

from __future__ import annotations

import functools
import importlib.util

import torch
from torch import Tensor

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
