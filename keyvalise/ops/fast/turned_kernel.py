"""The loops of `turned`."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel

_TILE = 16
_U = np.uint64


@kernel
def lay_out(x, rows, mean, cos, sin, is_interleaved, out):  # type: ignore[no-untyped-def]
    """Fill out [H, N, D]."""
    heads, n, dim = out.shape
    half, is_own = cos.shape[2], len(cos) > 1
    for i in range(n):
        # An unsigned index cannot count from the end, which would keep the loops from being vectorised.
        whole = x[_U(rows[i])]
        for h in range(heads):
            first = h * dim
            source, middle = whole[first : first + dim], mean[first : first + dim]
            c, s = cos[_U(h if is_own else 0), _U(i)], sin[_U(h if is_own else 0), _U(i)]
            to = out[_U(h), _U(i)]
            if is_interleaved:
                for k in range(half):
                    a, b = source[2 * k] + middle[2 * k], source[2 * k + 1] + middle[2 * k + 1]
                    to[2 * k] = a * c[k] - b * s[k]
                    to[2 * k + 1] = b * c[k] + a * s[k]
            else:
                for k in range(half):
                    a, b = source[k] + middle[k], source[k + half] + middle[k + half]
                    to[k] = a * c[k] - b * s[k]
                    to[k + half] = b * c[k] + a * s[k]
            for k in range(2 * half, dim):
                to[k] = source[k] + middle[k]


@kernel
def flip(y, scale, out):  # type: ignore[no-untyped-def]
    """out[i, c] = y[c, i] · scale[c], by way of a tile that stays in the cache."""
    n, dim = out.shape
    tile = np.empty((_TILE, _TILE), np.float32)
    for first in range(0, n, _TILE):
        height = min(_TILE, n - first)
        for left in range(0, dim, _TILE):
            width = min(_TILE, dim - left)
            for c in range(width):
                for i in range(height):
                    tile[i, c] = y[left + c, first + i] * scale[left + c]
            for i in range(height):
                for c in range(width):
                    out[first + i, left + c] = tile[i, c]
