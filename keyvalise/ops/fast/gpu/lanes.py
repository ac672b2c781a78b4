"""Which channel every lane of a tile holds.

Axes   W lanes. Lane i holds channel `channels()[i]`: integers of fewer than eight bits lie in planes, and
       every plane is filled up to a power of two.
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu.language import constexpr, jit, tl


@jit
def channels(SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """The channel of every lane, and whether there is one."""
    lane = tl.arange(0, SHAPE.width)
    if SHAPE.bits == 8:
        channel = lane
        is_channel = lane < SHAPE.dim
    else:
        PLANE: constexpr = SHAPE.width * SHAPE.bits // 8
        BYTES: constexpr = (SHAPE.dim * SHAPE.bits + 7) // 8
        channel = lane // PLANE * BYTES + lane % PLANE
        is_channel = (lane % PLANE < BYTES) & (channel < SHAPE.dim)
    return channel, is_channel
