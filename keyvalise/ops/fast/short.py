"""Short rows of whole numbers from their runs of bytes, in one compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import densities
from keyvalise.ops.fast import rans

Bytes = npt.NDArray[np.uint8]


def read(
    tables: Bytes, widths: Bytes, lengths: npt.NDArray[np.int64], runs: tuple[bytes, bytes, bytes]
) -> npt.NDArray[np.int32]:
    """All rows, one after another.

    tables, widths   of every row: `densities.index`, low bits
    runs             message, low bits, escapes (int32)
    Raises           ValueError where the bytes do not hold so many numbers
    """
    message, low, escapes = runs
    n = int(lengths.sum())
    stacks = rans.Stacks.of(message, n)
    far = np.frombuffer(escapes, np.int32)
    out = np.empty(n, np.int32)
    taken = _kernels().read(
        stacks.words,
        stacks.at,
        stacks.states,
        densities.tables().slots.reshape(-1),
        tables,
        widths,
        lengths,
        np.frombuffer(low + bytes(8), np.uint8),
        far,
        out,
    )
    stacks.finish()
    if taken != len(far):
        raise ValueError("numbers beyond a table are missing or left over")
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import short_kernel

    return short_kernel
