"""`ops.affine.encode_rows` on the CPU in one pass: least and largest number, parameters, codes, bytes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from keyvalise.ops.fast import choose, legible, spread

LEAST = 2**18
"""Numbers that are worth a thread."""


def serves(x: Tensor) -> bool:
    """Whether these can be coded here, and faster than by torch."""
    is_faster = choose.is_faster("packing", x.dtype, x.numel())
    return is_faster and x.is_cpu and x.numel() > 0 and legible.is_installed()


def encode_rows(x: Tensor, bits: int, groups: int, n_bytes: int) -> tuple[Tensor, Tensor]:
    """As `affine.encode_rows`, bit for bit where numbers are finite; a group with a NaN decodes to NaN.

    Shapes   x [N, D], not empty → packed uint8 [N, n_bytes], parameters float16 [N, groups, 2]
    Cost     each number is read once from memory
    """
    n, dim = x.shape
    packed = torch.empty(n, n_bytes, dtype=torch.uint8)
    scales = torch.empty(n, groups, 2, dtype=torch.int16)
    given = (x.detach().float().contiguous().numpy(), bits)
    spread.run(_kernels().encode, given, packed.numpy(), scales.numpy(), least=-(-LEAST // dim))
    return packed, scales.view(torch.float16)


def warm() -> None:
    """Compile what writes integers, or load it from disk."""
    encode_rows(torch.zeros(1, 8), 8, 1, 8)


def _kernels() -> Any:
    from keyvalise.ops.fast import affine_kernel

    return affine_kernel
