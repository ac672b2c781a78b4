"""Heads' maps and means on the side of queries and answers.

Axes   x [B, Hq, S, D], maps [B | 1, H | 1, D, r], means [B | 1, H | 1, D]; query head h belongs to kv head
       h // G
"""

from __future__ import annotations

from torch import Tensor


def times(x: Tensor, maps: Tensor) -> Tensor:
    """x·map of its head: [B, Hq, S, r]."""
    folded = x.reshape(x.shape[0], maps.shape[1], -1, x.shape[3])
    return (folded @ maps.to(x.dtype)).reshape(*x.shape[:3], -1)


def dots(x: Tensor, means: Tensor) -> Tensor:
    """x·mean of its head: [B, Hq, S]."""
    return times(x, means[..., None])[..., 0]


def plus(x: Tensor, means: Tensor) -> Tensor:
    """x + mean of its head."""
    folded = x.reshape(x.shape[0], means.shape[1], -1, x.shape[3])
    return (folded + means[:, :, None].to(x.dtype)).reshape(x.shape)
