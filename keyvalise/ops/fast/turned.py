"""Rows of components as keys or values in one pass: gathered, moved by their mean, turned, laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]


def lay_out(
    x: Singles,
    rows: npt.NDArray[np.int64],
    mean: Singles,
    heads: int,
    *,
    angles: tuple[Singles, Singles] | None,
    is_interleaved: bool = False,
) -> Singles:
    """out[h, i] = R(i)·(x[rows[i]] + mean) of head h.

    Shapes   x [n, H·D], rows [N], mean [H·D], angles: cosines and sines [H or 1, N, width/2], None = no turn
             → float32 [H, N, D]
    """
    out = np.empty((heads, len(rows), x.shape[1] // heads), np.float32)
    if angles is None:
        cos = sin = np.zeros((1, len(rows), 0), np.float32)
    else:
        cos, sin = angles
    _kernels().lay_out(x, rows, mean, cos, sin, is_interleaved, out)
    return out


def flip(y: Singles, scale: Singles) -> Singles:
    """Rows of channels: y [C, N] · scale [C] → [N, C]."""
    out = np.empty(y.shape[::-1], np.float32)
    _kernels().flip(y, scale, out)
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import turned_kernel

    return turned_kernel
