"""The loop of `reflect`: sums row after row, as the definition adds them."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel


@kernel
def mirror_(mirrors, scaled, out):  # type: ignore[no-untyped-def]
    """Apply all mirrors, the last one first; mirror j touches rows and columns from j on."""
    dim, rank = out.shape
    total = np.empty(rank, np.float32)
    for j in range(rank - 1, -1, -1):
        for k in range(j, rank):
            total[k] = mirrors[j, j] * out[j, k]
        for i in range(j + 1, dim):
            w = mirrors[j, i]
            for k in range(j, rank):
                total[k] += w * out[i, k]
        for i in range(j, dim):
            w = scaled[j, i]
            for k in range(j, rank):
                out[i, k] -= w * total[k]
