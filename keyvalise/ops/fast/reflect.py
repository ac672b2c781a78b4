"""The basis of `ops.reflect`, the same bits, mirrors applied by compiled loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import reflect


def basis(numbers: reflect.Numbers, dim: int, bits: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """The basis float32 [C, R]; as `reflect.basis`."""
    rank = len(numbers)
    mirrors, scaled = reflect.mirrors(numbers, dim, bits)
    out = np.zeros((dim, rank), np.float32)
    out[np.arange(rank), np.arange(rank)] = 1.0
    _kernels().mirror_(mirrors, scaled, out)
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import reflect_kernel

    return reflect_kernel
