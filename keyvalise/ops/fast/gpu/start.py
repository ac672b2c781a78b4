"""How kernels are started: where, with what, and which of their kinds."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops.fast.gpu import legible, sizes, told

_LIFT = 10.0
"""e^10 is 22,026, near the top of float16; weights of 2^-38 of the largest one are still above zero."""

PLAIN: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": True}
"""What triton is told of a small kernel."""


def is_narrow(q: Tensor, stored: Tensor) -> bool:
    """Whether queries and entries are 16-bit numbers of one kind: their products are exact in float32."""
    return q.dtype is stored.dtype and q.dtype in (torch.bfloat16, torch.float16)


def how(chosen: sizes.Sizes, stored: torch.dtype, n_lists: int = 1) -> told.How:
    """What a kernel is compiled for."""
    is_lifted = chosen.product is sizes.Product.NARROW and stored is torch.float16
    lift = _LIFT if is_lifted else 0.0
    return told.How(chosen.rows, chosen.block, int(chosen.product), lift, sizes.power(n_lists, 1))


def options(chosen: sizes.Sizes) -> dict[str, Any]:
    """What triton is told of a kernel of these sizes."""
    return PLAIN | {"num_warps": chosen.warps, "num_stages": chosen.stages}


def on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton starts kernels on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@functools.cache
def n_processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device; few where kernels are interpreted one program at a time."""
    if device.type != "cuda" or legible.is_interpreted():
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
