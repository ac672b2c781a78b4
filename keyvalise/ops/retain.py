"""Retaining heads: small networks that read one token's own queries, key and value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.ops import rope as ops
from keyvalise.types.geometry import Rope

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": functional.relu,
    "relu2": lambda x: functional.relu(x).square(),
    "tanh": torch.tanh,
}
"""What may stand between the two matrices."""


def features(q: Tensor, k: Tensor, v: Tensor, ordinals: Tensor, rope: Rope | None) -> Tensor:
    """What a head reads of every token: its un-rotated queries, its un-rotated keys, its values.

    Shapes   q [B, Hq, S, D], k [B, H, S, D], v [B, H, S, Dv], ordinals int [B, S]
             → float32 [B, S, Hq·D + H·D + H·Dv], heads in their order
    """
    q, k, v = q.float(), k.float(), v.float()
    if rope is not None:
        q, k = (ops.unrotate(x, ordinals[:, None], rope) for x in (q, k))
    return torch.cat([x.transpose(1, 2).flatten(2) for x in (q, k, v)], -1)


def predict(x: Tensor, fc1: Tensor, fc2: Tensor, activation: str) -> Tensor:
    """fc2·act(fc1·x) for every token and kv head.

    Shapes   x float32 [..., S, I], fc1 [..., E, I], fc2 [..., H, E] → float32 [..., H, S]
    """
    inner = ACTIVATIONS[activation](x @ fc1.float().transpose(-1, -2))
    return fc2.float() @ inner.transpose(-1, -2)


def activation(head: Mapping[str, Tensor]) -> str:
    """Which activation an asset's tensors are for: an empty tensor bears its name."""
    return next(name for name in ACTIVATIONS if name in head)
