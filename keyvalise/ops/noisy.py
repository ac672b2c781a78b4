"""Attention mass of a flattened and noisy softmax, recomputed from queries and keys.

Axes   q [B, Hq, S, D], keys [B, H, T, D]; Hq = G·H, query head h reads kv head h // G. Everything is float32.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.ops import hashing, mass
from keyvalise.types.data import Entries, Env, Piece


def column_sums(env: Env, piece: Piece, entries: Entries, taus: Tensor, draws: tuple[str, ...]) -> Tensor:
    """What the queries of a piece pay every entry when logits are shaken and divided by a temperature.

    Shapes   taus float32 [B, S], one temperature per query → [B, H, T], zero in dead slots
    Formula  Σ_s mean_g softmax_t((x_gst + noise_gst)/tau_s + logw_t) over the entries that query s sees, x
             the model's logits; the mean over one Gumbel noise for each name in `draws`, none without names
    Cost     Hq·S·T·D time, and as many hashes as logits for each draw; blocks of logits of at most
             mass.BLOCK_BYTES, but of one query, and the temporaries of hashing beside them
    """
    keys, ordinals = mass.clean_keys(entries), piece.stretch.ordinals(piece.q.device)
    q = torch.where((ordinals >= 0)[:, None, :, None], piece.q, 0.0)
    (n_rows, n_heads, n_entries, _), n_queries = keys.shape, q.shape[2]
    group = q.shape[1] // n_heads
    names = torch.arange(q.shape[1], device=q.device).view(n_heads, group)
    total = keys.new_zeros((n_rows, n_heads, n_entries))
    per_query = max(1, 4 * n_rows * group * n_entries)
    budget = mass.BLOCK_BYTES if q.device.type == "cpu" else mass.DEVICE_BLOCK_BYTES
    n_together = min(n_heads, max(1, budget // (per_query * min(n_queries, 64))))
    step = max(1, budget // (per_query * n_together))
    for first in range(0, n_heads, n_together):
        kv, queries = slice(first, first + n_together), slice(first * group, (first + n_together) * group)
        for begin in range(0, n_queries, step):
            rows = slice(begin, begin + step)
            # Tokens behind the block are the last entries, and no query of the block sees them.
            seen = n_entries - min(piece.stretch.cut(min(begin + step, n_queries), n_queries).counts)
            block = mass.logits(q[:, queries, rows], keys[:, kv, :seen], env.geometry)
            held, mask = _seen_by(entries, kv, seen, ordinals[:, rows])
            for draw in draws or (None,):
                shaken = block
                if draw is not None:
                    chances = hashing.per_pair(env, draw, names[kv], ordinals[:, rows], held)
                    shaken = block - chances.log_().neg_().log_()
                shaken = shaken / taus[:, None, None, rows, None]
                if entries.logw is not None:
                    shaken = shaken + entries.logw[:, kv, None, None, :seen]
                shares = shaken.masked_fill_(~mask, -math.inf).softmax(-1).masked_fill_(~mask, 0.0)
                total[:, kv, :seen] += shares.sum((2, 3))
    return total / (group * max(1, len(draws)))


def _seen_by(entries: Entries, kv: slice, seen: int, ordinals: Tensor) -> tuple[Tensor, Tensor]:
    """The ordinals [B, h, T] of the first `seen` entries, and which the queries see: bool [B, h, 1, S, T]."""
    held, live = entries.ordinals[:, kv, :seen], entries.live[:, kv, :seen]
    return held, mass.visible(held, live, ordinals)[:, :, None]
