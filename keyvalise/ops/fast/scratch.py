"""Room for a worker's own numbers: every row begins a cache line, or wide vectors would touch two."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.inlined import inlined
from keyvalise.ops.fast.plan import LINE


@inlined
def rows(n, width):  # type: ignore[no-untyped-def]
    """float32 [n, width rounded up to whole lines]; nobody has written there."""
    pitch = (width + LINE - 1) // LINE * LINE
    room = np.empty(n * pitch + LINE, np.float32)
    skip = -(room.ctypes.data // 4) % LINE
    return room[skip : skip + n * pitch].reshape((n, pitch))
