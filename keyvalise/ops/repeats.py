"""Which rows say again what an earlier row said: the first row of every group of equals leads it.

What depends on the token alone, as the values and the unturned keys of the first layer do, repeats with it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]


def groups(rows: npt.NDArray[np.generic]) -> Whole:
    """For every row [N, …] the index of the first row with the same bytes [N]."""
    n = len(rows)
    if n == 0:
        return np.zeros(0, np.int64)
    flat = np.ascontiguousarray(rows).reshape(n, rows.size // n).view(np.uint8)
    one = flat.view(np.dtype((np.void, flat.shape[1]))).ravel() if flat.shape[1] else np.zeros(n, np.uint8)
    _, first, inverse = np.unique(one, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def confirm(first: Whole, x: Singles, reach: Singles) -> Whole:
    """The groups, less the rows that lie further from their leader than they may, channel by channel.

    Shapes   first [N]; x, reach [N, C] → [N]; a row that is left out leads itself
    Needs    first[first] = first
    """
    is_near = (np.abs(x - x[first]) <= reach).all(1)
    return np.where(is_near, first, np.arange(len(first)))


def radii(x: Singles, heads: int, width: int, is_interleaved: bool) -> Singles:
    """Length of the pair that every channel is turned in, or its own size where it is not turned.

    Shapes   x [N, heads·D], the first `width` channels of a head turned → [N, heads·D]
    """
    split = x.reshape(len(x), heads, x.shape[1] // heads)
    out = np.abs(split)
    a, b = (
        (slice(0, width, 2), slice(1, width, 2))
        if is_interleaved
        else (slice(0, width // 2), slice(width // 2, width))
    )
    length = np.sqrt(split[..., a] * split[..., a] + split[..., b] * split[..., b])
    out[..., a] = out[..., b] = length
    return out.reshape(x.shape)
