"""A plane of symbols from its message, contexts found on the way; the contexts are those of `ops.planes`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import planes
from keyvalise.ops.fast import rans
from keyvalise.ops.frequencies import Tables

Planes = npt.NDArray[np.uint8]


def read(
    message: bytes,
    tables: Tables,
    mode: int,
    limits: npt.NDArray[np.uint8],
    before: Planes,
) -> Planes:
    """The symbols [N, C] of a plane.

    before   the plane before, or for the first one anything of its shape
    Raises   ValueError where the message holds no such plane
    """
    out = np.zeros(before.shape, np.uint8)
    stacks = rans.Stacks.of(message, out.size)
    near, columns = planes.classes(limits), max(before.shape[-1], 1)
    flat = tables.slots.ravel()
    _kernels().read(
        stacks.words, stacks.at, stacks.states, flat, mode, near, columns, before.ravel(), out.reshape(-1)
    )
    stacks.finish()
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import planes_kernel

    return planes_kernel
