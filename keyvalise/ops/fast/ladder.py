"""Numbers of codes in one compiled pass; the numbers of `ops.ladder.restore`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def restore(codes: npt.NDArray[np.int32], step: float, centre: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Δ·(q ± centre / 256), float32; as `ladder.restore`."""
    out = np.empty(codes.shape, np.float32)
    first, others = (np.float32(c / 256) for c in centre)
    _kernels().restore(np.ascontiguousarray(codes).ravel(), np.float32(step), first, others, out.ravel())
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import ladder_kernel

    return ladder_kernel
