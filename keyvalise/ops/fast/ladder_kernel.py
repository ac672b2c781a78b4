"""The loop of `ladder`: no branch, so that the compiler lays eight codes side by side."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel

_ZERO = np.float32(0)


@kernel
def restore(codes, step, first, others, out):  # type: ignore[no-untyped-def]
    """Fill out."""
    for i in range(len(out)):
        q = codes[i]
        beyond = first if q == 1 or q == -1 else others
        shift = beyond if q > 0 else (-beyond if q < 0 else _ZERO)
        out[i] = (np.float32(q) + shift) * step
