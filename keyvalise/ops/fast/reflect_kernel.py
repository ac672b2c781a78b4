"""The loop of `reflect`: sums row after row, as the definition adds them."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel


@kernel
def mirror_(mirrors, scaled, out):  # type: ignore[no-untyped-def]
    """Apply all mirrors, the last one first; mirror j touches rows and columns from j on."""
    dim, rank = out.shape
    room = np.empty(rank, np.float32)
    for j in range(rank - 1, -1, -1):
        total, n = room[j:], rank - j
        w, row = mirrors[j, j], out[j, j:]
        for k in range(n):
            total[k] = w * row[k]
        for i in range(j + 1, dim):
            w, row = mirrors[j, i], out[i, j:]
            for k in range(n):
                total[k] += w * row[k]
        for i in range(j, dim):
            w, row = scaled[j, i], out[i, j:]
            for k in range(n):
                row[k] -= w * total[k]
