"""Between query heads, kv heads and the layer: masks are spread over heads, scores are reduced."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from keyvalise.types.data import ScoreKind, Scores
from keyvalise.types.geometry import Geometry

How = Literal["mean", "max"]


def unsummed(kind: ScoreKind) -> ScoreKind:
    """The kind of scores that no longer sum to 1."""
    return "free" if kind == "mass" else kind


def spread(mask: Tensor, n_heads: int) -> Tensor:
    """A mask or column of kv heads on another head axis: repeated over the group, or merged to one head.

    Shapes   mask bool [B, H, T] → [B, n_heads, T] for n_heads = 1 (true where any head's is) or a multiple of
             H
    """
    if n_heads == mask.shape[1]:
        return mask
    if n_heads == 1:
        return mask.any(1, keepdim=True)
    return mask.repeat_interleave(n_heads // mask.shape[1], 1)


def reduce(scores: Scores, geometry: Geometry, how: How = "mean") -> Scores:
    """Scores of query heads as scores of kv heads; scores that are already per kv head or per layer stay.

    Shapes   values [B, Hq | H | 1, T] → [B, H | 1, T]; query head h belongs to kv head h // G
    """
    n_heads = geometry.n_kv_heads
    if scores.values.shape[1] in (1, n_heads):
        return scores

    def over(values: Tensor) -> Tensor:
        grouped = values.reshape(values.shape[0], n_heads, -1, values.shape[-1])
        return grouped.mean(2) if how == "mean" else grouped.amax(2)

    kind = scores.kind if how == "mean" else unsummed(scores.kind)
    return Scores(over(scores.values), kind, None if scores.base is None else over(scores.base))


def reduce_layer(scores: Scores, live: Tensor, how: How = "mean") -> Scores:
    """One score per entry for all heads; meant for layers whose heads hold the same entries.

    Shapes   values [B, N, T], live bool [B, H, T] → [B, 1, T]
    """
    mask = spread(live, scores.values.shape[1])

    def over(values: Tensor) -> Tensor:
        if how == "mean":
            total = torch.where(mask, values, 0.0).sum(1, keepdim=True)
            return total / mask.sum(1, keepdim=True).clamp(min=1)
        top = torch.where(mask, values, -math.inf).amax(1, keepdim=True)
        return torch.where(mask.any(1, keepdim=True), top, 0.0)

    kind = scores.kind if how == "mean" else unsummed(scores.kind)
    return Scores(over(scores.values), kind, None if scores.base is None else over(scores.base))
