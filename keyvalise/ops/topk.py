"""Exact and deterministic choice of the highest entries, the later one first among equals."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def top(values: Tensor, counts: Tensor, protect: Tensor, live: Tensor) -> Tensor:
    """The counts[b, h] best live entries of every head: protected first, then by value, later among equals.

    Among the protected the later comes first, whatever their values. An entry of value −inf is chosen only
    where it is protected, so a head may choose fewer than its count.

    Shapes   values float [B, H | 1, T], counts int [B, H], protect, live bool [B, H, T] → bool [B, H, T]
    Cost     H·T·log T time, one int64 and one float temporary of B·H·T
    """
    ranked = torch.where(live, values, -math.inf).masked_fill(protect & live, math.inf)
    # Entries ascend by ordinal: a stable sort of the reversed run puts the later one first among equals.
    order = ranked.flip(-1).sort(dim=-1, descending=True, stable=True).indices
    is_in = torch.arange(order.shape[-1], device=order.device) < counts[..., None]
    chosen = torch.zeros_like(live).scatter_(-1, order, is_in.expand_as(order)).flip(-1)
    return chosen & (ranked > -math.inf)
