"""What kernels on a device can read, and whether there is anything to run them."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from keyvalise.types.written import Integers

KINDS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

MOST = 512
"""The largest key or value dim: a tile must fit the memory that a program shares."""

CAPABILITY = (8, 0)
"""The first devices that multiply matrices of bfloat16 and tf32."""

VARIABLE = "TRITON_INTERPRET"
"""Environment variable that has triton run kernels on the CPU, very slowly; read when one is first needed."""


def flaw(k: Tensor, v: Tensor) -> str | None:
    """Why these entries cannot be read, or None."""
    if found := flaw_at(k, v):
        return found
    if k.dtype not in KINDS or k.dtype is not v.dtype:
        return f"keys and values must both be {' or '.join(KINDS.values())}; got {k.dtype} and {v.dtype}"
    if k.stride(-1) != 1 or v.stride(-1) != 1:
        return "keys and values must have stride 1 in the last axis"
    return flaw_in(k.shape[-1], v.shape[-1])


def flaw_of(side: Integers) -> str | None:
    """Why these integers cannot be read, or None."""
    codes, scales, row_of = side.codes, side.scales, side.row_of
    if found := flaw_at(codes, scales, *([] if row_of is None else [row_of])):
        return found
    n_bytes = -(-side.dim * side.bits // 8)
    if found := flaw_in(side.dim):
        return found
    if side.bits not in (1, 2, 4, 8):
        return f"codes must have 1, 2, 4 or 8 bits; got {side.bits}"
    if codes.dtype is not torch.uint8 or codes.shape[1:] != (n_bytes,) or scales.dtype is not torch.float16:
        return (
            f"codes must be bytes [N, {n_bytes}] and scales float16; got {tuple(codes.shape)}, {scales.dtype}"
        )
    if scales.ndim != 3 or scales.shape[2] != 2 or not 1 <= scales.shape[1] <= side.dim:
        return f"scales must be [M, groups, 2], at most {side.dim} groups; got {tuple(scales.shape)}"
    if not (codes.is_contiguous() and scales.is_contiguous()) or scales.storage_offset() % 2:
        return "codes and scales must be contiguous"
    if row_of is None:
        return "an entry has no scales" if len(codes) > len(scales) * side.run else None
    is_fit = row_of.dtype is torch.int32 and row_of.is_contiguous() and row_of.shape == codes.shape[:1]
    return None if is_fit else "what finds the scales must be int32 and contiguous, one per entry"


def flaw_in(*dims: int) -> str | None:
    """Why vectors of these sizes cannot be read, or None."""
    if min(dims) < 1 or max(dims) > MOST:
        return f"key and value dims must be 1 to {MOST}; got {', '.join(map(str, dims))}"
    return None


def flaw_at(*tensors: Tensor) -> str | None:
    """Why no kernel can run where these tensors lie, or None."""
    if not is_installed():
        return "triton is not installed"
    places = {x.device for x in tensors}
    if len(places) > 1:
        return f"all must lie on one device; got {', '.join(sorted(map(str, places)))}"
    place = places.pop()
    if place.type == "cpu" and is_interpreted():
        return None
    if place.type == "cuda":
        return _flaw_of_device(place)
    return f"all must lie on a CUDA device, got {place}; on the CPU only with {VARIABLE}=1 in the environment"


@functools.cache
def _flaw_of_device(place: torch.device) -> str | None:
    if torch.version.hip is not None:
        return "kernels are written for CUDA, not for ROCm"
    if torch.cuda.get_device_capability(place) < CAPABILITY:
        return f"a device must have compute capability {'.'.join(map(str, CAPABILITY))} or more"
    return None


@functools.cache
def is_installed() -> bool:
    """Whether triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether kernels are interpreted on the CPU."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "true", "on")
