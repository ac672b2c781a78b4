"""Searches of codes that are sums, compiled: `signs.encode` and `commuting.encode` on the CPU in float32.

The compiler is imported on first use. Where two sums are equally near up to rounding, either may be found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from keyvalise.ops.fast import legible


def available(x: Tensor) -> bool:
    """Whether these rows can be searched here."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and legible.is_installed()


def signs(x: Tensor, matrix: Tensor, beam: int) -> Tensor:
    """uint8 [M, K] of rows x [M, D] and a matrix [K, D]; as `signs.encode`."""
    bits = np.empty((len(x), len(matrix)), np.uint8)
    _kernels().signs(_array(x), _array(matrix), beam, bits)
    return torch.from_numpy(bits)


def words(x: Tensor, tables: Tensor, turned: Tensor, sizes: Tensor, beam: int) -> Tensor:
    """int64 [M, R] of rows x [M, D]; as `commuting.encode`.

    Shapes   tables [R, n, D], turned the same times i, sizes [R, n, n]: squared lengths of the codewords
    """
    codes = np.empty((len(x), len(tables)), np.int64)
    _kernels().words(_array(x), _array(tables), _array(turned), _array(sizes), beam, codes)
    return torch.from_numpy(codes)


def _array(x: Tensor) -> Any:
    return x.detach().contiguous().numpy()


def _kernels() -> Any:
    from keyvalise.ops.fast import search_kernel

    return search_kernel
