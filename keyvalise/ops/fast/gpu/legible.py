"""What kernels on a device can read, and whether there is anything to run them."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from keyvalise.ops.fast import sound
from keyvalise.types.written import Integers, Written

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


def flaw_of(side: Written) -> str | None:
    """Why what is written so cannot be read, or None."""
    if found := flaw_at(*sound.tensors(side)) or flaw_in(side.dim) or sound.flaw(side):
        return found
    if isinstance(side, Integers) and side.scales.storage_offset() % 2:
        return "scales must begin at a whole number of four bytes"
    return None


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
