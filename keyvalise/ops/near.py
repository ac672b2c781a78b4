"""Attention per entry, of all queries and of those for which the entry was among the newest, in one pass.

Axes   q [B, Hq, S, D], keys [B, H, T, D]; Hq = G·H, query head h reads kv head h // G. Everything is float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.ops import mass
from keyvalise.ops.heads import How
from keyvalise.types.data import Entries, Piece
from keyvalise.types.geometry import Geometry


def column_sums(
    geometry: Geometry, piece: Piece, entries: Entries, width: Tensor, how: How = "mean"
) -> tuple[Tensor, Tensor]:
    """What the queries of a piece pay every entry: all of them, and those at most `width` tokens behind it.

    Shapes   width int [B]: a query's newest tokens, itself among them → two times [B, H, T] float32, zero in
             dead slots
    Formula  Σ_s a_st and Σ over s − t < width of a_st;  a_st = mean or max over the group of
             exp(scale·q_gs·k_t + logw_t − lse_gs) over the real queries s that see t
    Cost     Hq·S·T·D time (half of it where S = T); blocks of logits of at most mass.BLOCK_BYTES, but of one
             query
    """
    keys, ordinals = mass.clean_keys(entries), piece.stretch.ordinals(piece.q.device)
    is_real = (ordinals >= 0)[:, None]
    q = torch.where(is_real[..., None], piece.q, 0.0)
    # A query that reads nothing has lse −inf; +inf makes its probabilities zero.
    lse = torch.where(is_real & ~torch.isneginf(piece.lse), piece.lse, math.inf)
    (n_rows, n_heads, n_entries, _), n_queries = keys.shape, q.shape[2]
    group = q.shape[1] // n_heads
    per_query = max(1, 4 * n_rows * group * n_entries)
    budget = mass.BLOCK_BYTES if q.device.type == "cpu" else mass.DEVICE_BLOCK_BYTES
    n_together = min(n_heads, max(1, budget // (per_query * min(n_queries, 64))))
    step = max(1, budget // (per_query * n_together))
    total, close = (keys.new_zeros((n_rows, n_heads, n_entries)) for _ in range(2))
    for first in range(0, n_heads, n_together):
        kv, queries = slice(first, first + n_together), slice(first * group, (first + n_together) * group)
        for begin in range(0, n_queries, step):
            rows = slice(begin, begin + step)
            # Tokens behind the block are the last entries, and no query of the block sees them.
            seen = n_entries - min(piece.stretch.cut(min(begin + step, n_queries), n_queries).counts)
            block = mass.logits(q[:, queries, rows], keys[:, kv, :seen], geometry)
            block.sub_(lse[:, queries, rows].reshape(block.shape[:4])[..., None])
            if entries.logw is not None:
                block.add_(entries.logw[:, kv, None, None, :seen])
            held, asked = entries.ordinals[:, kv, :seen], ordinals[:, rows]
            mask = mass.visible(held, entries.live[:, kv, :seen], asked)
            block.masked_fill_(~mask[:, :, None], -math.inf).exp_()
            shares = block.mean(2) if how == "mean" else block.amax(2)
            total[:, kv, :seen] += shares.sum(2)
            is_far = asked[:, None, :, None] - held[:, :, None] >= width[:, None, None, None]
            close[:, kv, :seen] += shares.masked_fill_(is_far, 0.0).sum(2)
    return total, close
