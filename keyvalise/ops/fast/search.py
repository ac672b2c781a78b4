"""Searches of codes that are sums, compiled: `signs.encode` and `commuting.nearest` on the CPU in float32.

The compiler is imported on first use. Where two sums are equally near up to rounding, either may be found.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor


def available(x: Tensor) -> bool:
    """Whether these rows can be searched here."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and _is_installed()


def signs(x: Tensor, matrix: Tensor, beam: int) -> Tensor:
    """uint8 [M, K] of rows x [M, D] and a matrix [K, D]."""
    bits = np.empty((len(x), len(matrix)), np.uint8)
    _kernels().signs(_array(x), _array(matrix), beam, bits)
    return torch.from_numpy(bits)


def words(of_real: Tensor, of_turned: Tensor, both: Tensor) -> Tensor:
    """int64 [M]: where of_real [M, n] and of_turned [M, n] and both [n, n] are largest, as A·n + B."""
    found = np.empty(len(of_real), np.int64)
    _kernels().words(_array(of_real), _array(of_turned), _array(both), found)
    return torch.from_numpy(found)


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


def _array(x: Tensor) -> Any:
    return x.detach().contiguous().numpy()


def _kernels() -> Any:
    from keyvalise.ops.fast import search_kernel

    return search_kernel
