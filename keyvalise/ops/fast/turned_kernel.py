"""The loops of `turned`."""

from __future__ import annotations

from keyvalise.ops.fast.compiled import kernel


@kernel
def lay_out(x, rows, mean, cos, sin, is_interleaved, out):  # type: ignore[no-untyped-def]
    """Fill out [H, N, D]."""
    heads, n, dim = out.shape
    half = cos.shape[2]
    for h in range(heads):
        first, turn = h * dim, h if len(cos) > 1 else 0
        for i in range(n):
            row = rows[i]
            if is_interleaved:
                for k in range(half):
                    at = first + 2 * k
                    a, b = x[row, at] + mean[at], x[row, at + 1] + mean[at + 1]
                    out[h, i, 2 * k] = a * cos[turn, i, k] - b * sin[turn, i, k]
                    out[h, i, 2 * k + 1] = b * cos[turn, i, k] + a * sin[turn, i, k]
            else:
                for k in range(half):
                    a, b = x[row, first + k] + mean[first + k], x[row, first + k + half] + mean[first + k + half]
                    out[h, i, k] = a * cos[turn, i, k] - b * sin[turn, i, k]
                    out[h, i, k + half] = b * cos[turn, i, k] + a * sin[turn, i, k]
            for k in range(2 * half, dim):
                out[h, i, k] = x[row, first + k] + mean[first + k]
