"""Rotary positions: turning keys and queries forth and back. Angles come from `Rope`, never from a model.

Two layouts of the first `width` channels: half (channel i pairs with i + width/2) and interleaved (2i with 2i
+ 1); the other channels are left alone. A model's own rotation is x_rot = scaling·R(position)·x on the
rotated channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.types.geometry import Rope


def rotate(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, width: int) -> Tensor:
    """Turn every channel pair (a, b) to (a·cos − b·sin, b·cos + a·sin); nothing is scaled.

    Shapes   x [..., D], cos, sin [..., width/2] that broadcast against it → [..., D], at least float32
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if interleaved:
        a, b = x[..., 0:width:2], x[..., 1:width:2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = x[..., : width // 2], x[..., width // 2 : width]
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return turned if width == x.shape[-1] else torch.cat([turned, x[..., width:]], -1)


def apply(x: Tensor, positions: Tensor, rope: Rope) -> Tensor:
    """scaling·R(position)·x, as the model does it.

    Shapes   x [..., D], positions [...] that broadcast against x's leading axes → [..., D], at least float32
    """
    cos, sin = rope.angles(positions)
    return rotate(x, cos * rope.scaling, sin * rope.scaling, rope.is_interleaved, rope.width)


def unrotate(x: Tensor, positions: Tensor, rope: Rope) -> Tensor:
    """The inverse of `apply`: R(−position)·x / scaling.

    The angles carry no scaling here, so one division undoes it; with a model's own tables, whose cosines and
    sines are already scaled, turning back would have to divide by scaling².
    """
    cos, sin = rope.angles(positions)
    return rotate(x, cos / rope.scaling, -sin / rope.scaling, rope.is_interleaved, rope.width)


def shift(x: Tensor, delta_positions: Tensor, rope: Rope) -> Tensor:
    """Move already rotated vectors by a difference of positions; their scaling stays as it is.

    Shapes   x [..., D], delta_positions [...] that broadcast against x's leading axes → [..., D], at least
             float32
    """
    cos, sin = rope.angles(delta_positions)
    return rotate(x, cos, sin, rope.is_interleaved, rope.width)


def mean_rotation(rope: Rope, first: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Mean cosine and sine over n positions from `first` on; `rotate` by them is the mean rotation.

    Shapes   first int [B] → two of [B, width/2] float32, without scaling
    """
    steps = torch.arange(n, device=first.device)
    cos, sin = rope.angles(first[:, None] + steps)
    return cos.mean(1), sin.mean(1)
