"""What integers stand for: a step times the number, and an offset.

Axes   N entries, W lanes, see `lanes`
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu import lanes
from keyvalise.ops.fast.gpu.language import constexpr, jit, tl


@jit
def spell(side, entry, live, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """float32 [N, W] of the entries int64 [N] that are live."""
    _, is_channel = lanes.channels(SHAPE)
    PLANE: constexpr = SHAPE.width * SHAPE.bits // 8
    lane = tl.arange(0, SHAPE.width)
    at = side.at + (entry * side.entry)[:, None] + (lane % PLANE)[None, :]
    codes = tl.load(at, mask=live[:, None] & is_channel[None, :], other=0).to(tl.int32)
    codes = (codes >> (lane // PLANE * SHAPE.bits)[None, :]) & ((1 << SHAPE.bits) - 1)
    pair = steps(side, entry, live, SHAPE)
    step = (pair & 0xFFFF).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    offset = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    return offset + step * codes.to(tl.float32)


@jit
def steps(side, entry, live, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """int32 [N, W]: step and offset of every lane, which lie side by side, as one number."""
    GROUP: constexpr = (SHAPE.dim + SHAPE.groups - 1) // SHAPE.groups
    if side.row_of is None:
        own = entry // side.run
    else:
        own = tl.load(side.row_of + entry, mask=live, other=0).to(tl.int64)
    at = side.pairs + (own * SHAPE.groups)[:, None]
    if SHAPE.groups * GROUP == SHAPE.width and GROUP > 1:
        # Lanes are channels and groups are even: each number is read once, not by all of its lanes.
        few = tl.load(at + tl.arange(0, SHAPE.groups)[None, :], mask=live[:, None], other=0)
        wide = tl.broadcast_to(few[:, :, None], (entry.shape[0], SHAPE.groups, GROUP))
        pair = tl.reshape(wide, (entry.shape[0], SHAPE.width))
    else:
        channel, is_channel = lanes.channels(SHAPE)
        mask = live[:, None] & is_channel[None, :]
        pair = tl.load(at + (channel // GROUP)[None, :], mask=mask, other=0)
    return pair
