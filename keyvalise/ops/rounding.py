"""Integer shares with exact sums: largest remainders, and filling up between floors and caps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GRAIN = 1e-6
"""Remainders closer than this are equal, so that float noise never decides who gets a token."""


def largest_remainder(targets: Tensor, total: Tensor, caps: Tensor) -> Tensor:
    """Round real shares to whole ones of sum `total`; the largest remainders go up, the lower index first.

    Shapes   targets float64 [..., n] ≥ 0 with sum `total` and targets ≤ caps, total int64 [...], caps int64
             [..., n] → int64 [..., n]
    Formula  floor(targets), plus one for the (total − Σ floor) largest remainders
    """
    # Only targets a rounding error below a whole number profit from the grain.
    base = torch.minimum((targets + _GRAIN).floor().long(), caps)
    is_open = base < caps
    remainder = ((targets - base) / _GRAIN).round().masked_fill(~is_open, -math.inf)
    order = remainder.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(order.shape[-1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(-1, order, places)
    spare = total - base.sum(-1)
    return base + ((rank < spare[..., None]) & is_open)


def share_out(weights: Tensor, total: Tensor, caps: Tensor, floors: Tensor | None = None) -> Tensor:
    """Whole shares in proportion to `weights`, between floors and caps, with sum min(total, Σ caps).

    What a cap cuts off goes to the others in proportion. Floors that together exceed `total` are ignored.

    Shapes   weights [..., n] ≥ 0, total int64 [...], caps, floors int64 [..., n] → int64 [..., n]
    Formula  clip(λ·w, floor, cap) with the one λ that makes the sum right, then largest remainders
    Cost     n² time and transient elements per row (n is heads or layers); no loop, no device synchronisation
    """
    caps = caps.long()
    low = torch.zeros_like(caps) if floors is None else torch.minimum(floors.long(), caps)
    total = torch.minimum(total.long(), caps.sum(-1))
    low = torch.where(low.sum(-1, keepdim=True) <= total[..., None], low, 0)
    level = _level(_positive(weights), total.double(), low.double(), caps.double())
    targets = torch.clamp(level[..., None] * _positive(weights), low.double(), caps.double())
    return largest_remainder(targets, total, caps)


def _positive(weights: Tensor) -> Tensor:
    """float64 weights; a zero becomes so small that it is served only when all others are full."""
    weights = weights.double()
    most = weights.amax(-1, keepdim=True)
    return torch.where(most > 0, torch.maximum(weights, most * 1e-9), 1.0)


def _level(weights: Tensor, total: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """λ [...] with Σ clip(λ·w, low, high) = total; it is piecewise linear with corners low/w, high/w."""
    corners = torch.cat([low / weights, high / weights], -1)
    filled = corners[..., None] * weights[..., None, :]
    filled = torch.clamp(filled, low[..., None, :], high[..., None, :]).sum(-1)
    level = corners.masked_fill(filled > total[..., None] + _GRAIN, 0.0).amax(-1)
    reached = torch.clamp(level[..., None] * weights, low, high).sum(-1)
    is_rising = (low / weights <= level[..., None]) & (level[..., None] < high / weights)
    slope = (weights * is_rising).sum(-1)
    # Noise may have reached a little more than the total; a tiny slope would blow that up.
    missing = (total - reached).clamp(min=0)
    return torch.where(slope > 0, level + missing / slope.clamp(min=1e-300), level)
