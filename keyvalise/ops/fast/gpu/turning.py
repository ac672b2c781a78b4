"""Turning keys by their positions, sines and cosines included.

Angles are those of `types.geometry.Rope`: the phase is rounded to float32 before anything is taken of it, as
`ops.fast.waves` says. The device's own sines and cosines are as exact, but branch and spill registers.
"""

from __future__ import annotations

import math

from keyvalise.ops.fast import waves
from keyvalise.ops.fast.gpu import lanes
from keyvalise.ops.fast.gpu.language import constexpr, jit, tl

TURNS, PI = tl.constexpr(waves.TURNS), tl.constexpr(math.pi)
S0, S1, S2, S3 = (tl.constexpr(x) for x in waves.SINE)
C0, C1, C2, C3, C4 = (tl.constexpr(x) for x in waves.COSINE)


@jit
def pair(channel, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """[W]: the channel that every channel turns with; itself where it does not turn."""
    if SHAPE.is_interleaved:
        other = channel ^ 1
    else:
        other = tl.where(channel < SHAPE.angles, channel + SHAPE.angles, channel - SHAPE.angles)
    return tl.where(channel < 2 * SHAPE.angles, other, channel)


@jit
def turned(x, other, turn, entry, live, SHAPE: constexpr):  # type: ignore[no-untyped-def]
    """scaling·R(position)·x for x [N, W] and the channels that turn with them."""
    channel, is_channel = lanes.channels(SHAPE)
    if SHAPE.is_interleaved:
        angle, is_first = channel // 2, channel % 2 == 0
    else:
        angle, is_first = channel % SHAPE.angles, channel < SHAPE.angles
    turns = channel < 2 * SHAPE.angles
    frequency = tl.load(turn.frequencies + angle, mask=turns & is_channel, other=0.0)
    position = tl.load(turn.positions + entry, mask=live, other=0).to(tl.float32)
    sine, cosine = wave(position[:, None] * frequency[None, :])
    across = tl.where(is_first[None, :], -other, other)
    return tl.where(turns[None, :], turn.scaling * (x * cosine + across * sine), x)


@jit
def wave(phase):  # type: ignore[no-untyped-def]
    """Sine and cosine of float32."""
    whole = phase.to(tl.float64) * TURNS
    y = (whole - tl.floor(whole + 0.5)).to(tl.float32) * PI
    z = y * y
    s = y + y * z * (((S3 * z + S2) * z + S1) * z + S0)
    c = 1.0 + z * ((((C4 * z + C3) * z + C2) * z + C1) * z + C0)
    return 2.0 * s * c, 1.0 - 2.0 * s * s
