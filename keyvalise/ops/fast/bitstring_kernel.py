"""The loops of `bitstring`; widths are at most 24, and eight bytes behind the data are zero."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel


@kernel
def pack(values, widths, out):  # type: ignore[no-untyped-def]
    """Fill out."""
    at, held, n_held = 0, np.int64(0), 0
    for i in range(len(values)):
        held |= (np.int64(values[i]) & ((1 << np.int64(widths[i])) - 1)) << n_held
        n_held += widths[i]
        while n_held >= 8:
            out[at] = np.uint8(held & 255)
            at += 1
            held >>= 8
            n_held -= 8
    if n_held:
        out[at] = np.uint8(held & 255)


@kernel
def unpack(data, widths, out):  # type: ignore[no-untyped-def]
    """Fill out."""
    bit = np.int64(0)
    for i in range(len(out)):
        at, width = np.uint64(bit >> 3), np.int64(widths[i])
        near = np.int64(data[at]) | np.int64(data[at + np.uint64(1)]) << 8
        near |= np.int64(data[at + np.uint64(2)]) << 16 | np.int64(data[at + np.uint64(3)]) << 24
        out[i] = (near >> (bit & 7)) & ((1 << width) - 1)
        bit += width
