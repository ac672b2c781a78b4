"""What values weigh: clean values, their lengths behind a projection, and scores multiplied by such weights.

Axes   weights [B, M, T] and scores [B, N, T] lie on the heads of a layer (1, H or Hq); dead slots are zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.ops import heads
from keyvalise.types.data import Entries, Scores

BLOCK_BYTES = 16 * 2**20
"""Most transient bytes of projected values, where one entry of every row is the least taken at once."""


def clean_values(entries: Entries) -> Tensor:
    """float32 values [B, H, T, Dv] with zeros in the dead slots, whatever these hold."""
    return entries.values().float().masked_fill(~entries.live[..., None], 0.0)


def projected_lengths(values: Tensor, matrix: Tensor) -> Tensor:
    """How much every value can move the output of the layer through every query head that reads it.

    Shapes   values float32 [B, H, T, Dv], matrix [Hq, Dv, E] → [B, Hq, T]
    Formula  ‖v_t W_h‖₁, query head h reading kv head h // G
    Cost     Hq·T·Dv·E time; blocks of projected values of at most BLOCK_BYTES
    """
    n_rows, n_heads, n_entries, _ = values.shape
    n_query_heads, _, width = matrix.shape
    step = max(1, BLOCK_BYTES // (4 * n_rows * width))
    lengths = values.new_empty((n_rows, n_query_heads, n_entries))
    for head in range(n_query_heads):
        own = matrix[head].to(values)
        source = values[:, head * n_heads // n_query_heads]
        for begin in range(0, n_entries, step):
            span = slice(begin, begin + step)
            lengths[:, head, span] = (source[:, span] @ own).abs_().sum(-1)
    return lengths


def on_heads(weights: Tensor, n_heads: int) -> Tensor:
    """Weights [B, M, T] on n_heads heads: the mean over those that become one, or repeated over a group."""
    have = weights.shape[1]
    if n_heads > have:
        return weights.repeat_interleave(n_heads // have, 1)
    return weights if n_heads == have else weights.unflatten(1, (n_heads, -1)).mean(2)


def weighed(scores: Scores, weights: Tensor, live: Tensor, eps: float = 0.0) -> Scores:
    """(max(score, 0) + eps)·weight, with the scores before as `base`; −inf stays, dead slots are zero.

    Shapes   scores and weights [B, N, T], live bool [B, H, T]
    """
    mask, is_out = heads.spread(live, scores.values.shape[1]), torch.isneginf(scores.values)
    products = (torch.where(mask, scores.values, 0.0).clamp(min=0.0) + eps) * weights
    found = torch.where(mask, products.masked_fill(is_out, -math.inf), 0.0)
    return Scores(found, "free", before(scores, live))


def before(scores: Scores, live: Tensor) -> Tensor:
    """The scores before any weighing, zero in dead slots: the base where there is one, or the values."""
    found = scores.values if scores.base is None else scores.base
    return torch.where(heads.spread(live, found.shape[1]), found, 0.0)


def shares(values: Tensor, live: Tensor) -> Tensor:
    """Scores as shares that sum to 1 over the live entries of every head; what lies below 0 counts as 0.

    Shapes   values and live [B, N, T] → [B, N, T]; zeros where a head's scores are all zero
    """
    clean = torch.where(live, values, 0.0).clamp(min=0.0)
    return clean / clean.sum(-1, keepdim=True).clamp(min=torch.finfo(clean.dtype).tiny)
