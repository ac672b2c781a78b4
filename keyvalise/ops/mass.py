"""Attention mass per entry, recomputed from queries, keys and the log-sum-exp of a finished attention.

Axes   q [B, Hq, S, D], keys [B, H, T, D]; Hq = G·H, query head h reads kv head h // G. Everything is float32.
Query s sees the live entries whose ordinal is at most its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.ops import units
from keyvalise.ops.fast import arrivals
from keyvalise.ops.fast import mass as fast
from keyvalise.ops.fast.gpu import mass as device
from keyvalise.types.data import Entries, Piece
from keyvalise.types.geometry import Geometry

BLOCK_BYTES = 8 * 2**20
"""Most transient bytes of logits in `column_sums` on a CPU, where blocks that fit the caches are fastest."""

DEVICE_BLOCK_BYTES = 64 * 2**20
"""The same on an accelerator, where few large blocks are faster."""

WINDOW_BYTES = 256 * 2**20
"""Most transient bytes of logits in `window_mass`, where one kv head is the least that is taken at once."""


def clean_keys(entries: Entries) -> Tensor:
    """float32 keys [B, H, T, D] with zeros in the dead slots, whatever these hold."""
    return entries.keys().float().masked_fill(~entries.live[..., None], 0.0)


def logits(q: Tensor, keys: Tensor, geometry: Geometry) -> Tensor:
    """Softcapped logits: q [B, Hq, S, D] and float32 keys [B, H, T, D] → [B, H, G, S, T]."""
    n_rows, n_heads, n_entries, dim = keys.shape
    folded = (q.float() * geometry.scale).reshape(n_rows, n_heads, -1, dim)
    products = folded @ keys.transpose(-1, -2)
    if geometry.softcap is not None:
        products.div_(geometry.softcap).tanh_().mul_(geometry.softcap)
    return products.view(n_rows, n_heads, -1, q.shape[2], n_entries)


def column_sums(geometry: Geometry, piece: Piece, entries: Entries) -> Tensor:
    """How much attention the queries of a piece paid to every entry, as the mean over the group.

    Shapes   → [B, H, T] float32, zero in dead slots
    Formula  Σ_s mean_g exp(scale·q_gs·k_t + logw_t − lse_gs) over the real queries s that see t
    Cost     Hq·S·T·D time (half of it where S = T); blocks of logits of at most BLOCK_BYTES, but of one query
    """
    if piece.q.device.type == "cuda" and device.available(piece.q, entries):
        return device.column_sums(geometry, piece, entries)
    if piece.q.shape[2] == 1 and piece.stretch.is_plain:
        return _newest(geometry, piece, entries)
    if fast.serves("sums", piece.q, entries):
        return fast.column_sums(geometry, piece, entries)
    keys, ordinals = clean_keys(entries), piece.stretch.ordinals(piece.q.device)
    is_real = (ordinals >= 0)[:, None]
    q = piece.q if piece.stretch.is_plain else torch.where(is_real[..., None], piece.q, 0.0)
    # A query that reads nothing has lse −inf; +inf makes its probabilities zero.
    lse = torch.where(is_real & ~torch.isneginf(piece.lse), piece.lse, math.inf)
    (n_rows, n_heads, n_entries, _), n_queries = keys.shape, q.shape[2]
    group = q.shape[1] // n_heads
    total = keys.new_zeros((n_rows, n_heads, n_entries))
    per_query = max(1, 4 * n_rows * group * n_entries)
    budget = BLOCK_BYTES if q.device.type == "cpu" else DEVICE_BLOCK_BYTES
    # Few heads and many queries make better matrix products than many heads and few queries.
    n_together = min(n_heads, max(1, budget // (per_query * min(n_queries, 64))))
    step = max(1, budget // (per_query * n_together))
    clear = _clear(entries, ordinals[:, ::step]) if n_queries > 1 else [0]
    for first in range(0, n_heads, n_together):
        kv, queries = slice(first, first + n_together), slice(first * group, (first + n_together) * group)
        for begin in range(0, n_queries, step):
            rows = slice(begin, begin + step)
            seen = arrivals.seen(piece.stretch, min(begin + step, n_queries), n_entries)
            block = logits(q[:, queries, rows], keys[:, kv, :seen], geometry)
            block.sub_(lse[:, queries, rows].reshape(block.shape[:4])[..., None])
            if entries.logw is not None:
                block.add_(entries.logw[:, kv, None, None, :seen])
            edge = slice(clear[begin // step], seen)
            mask = visible(entries.ordinals[:, kv, edge], entries.live[:, kv, edge], ordinals[:, rows])
            block[..., edge].masked_fill_(~mask[:, :, None], -math.inf)
            total[:, kv, :seen] += block.exp_().sum((2, 3))
    return total / group


def _newest(geometry: Geometry, piece: Piece, entries: Entries) -> Tensor:
    """`column_sums` of one query per row, which sees every live entry."""
    # Whatever dead slots hold stays in their own columns.
    block = units.logits(piece.q[:, :, 0], entries.keys()).mul_(geometry.scale)
    if geometry.softcap is not None:
        block.div_(geometry.softcap).tanh_().mul_(geometry.softcap)
    block = block.unflatten(1, (geometry.n_kv_heads, -1))
    if entries.logw is not None:
        block.add_(entries.logw[:, :, None])
    # A query that reads nothing has lse −inf, and nothing live to read.
    paid: Tensor = block.sub_(piece.lse.reshape(*block.shape[:3], 1)).exp_().mean(2)
    return paid.masked_fill_(~entries.live, 0.0)


def window_mass(geometry: Geometry, q: Tensor, ordinals: Tensor, entries: Entries) -> Tensor:
    """Mean over the given queries of their softmax over the live entries they see.

    Shapes   q [B, Hq, n, D], ordinals int [B, n] (−1: no query) → [B, Hq, T] float32, zero in dead slots
    Formula  mean_s softmax_t(scale·q_s·k_t + logw_t); queries that see nothing are left out of the mean
    Cost     Hq·n·T·D time; Hq·n·T floats, in blocks of heads of at most WINDOW_BYTES
    """
    if q.device.type == "cuda" and device.available(q, entries):
        return device.window_mass(geometry, q, ordinals, entries)
    if fast.serves("window", q, entries):
        return fast.window_mass(geometry, q, ordinals, entries)
    keys, mask = clean_keys(entries), visible(entries.ordinals, arrivals.readable(entries), ordinals)
    group = q.shape[1] // keys.shape[1]
    step = max(1, WINDOW_BYTES // max(1, 4 * q.shape[0] * group * mask.shape[2] * mask.shape[3]))
    votes = []
    for begin in range(0, keys.shape[1], step):
        heads = slice(begin, begin + step)
        block = logits(q[:, begin * group : (begin + step) * group], keys[:, heads], geometry)
        if entries.logw is not None:
            block.add_(entries.logw[:, heads, None, None])
        block.masked_fill_(~mask[:, heads, None], -math.inf)
        votes.append(block.softmax(-1).masked_fill(~mask[:, heads, None], 0.0).sum(3).flatten(1, 2))
    n_voters = mask.any(-1).sum(-1).clamp(min=1).repeat_interleave(group, 1)
    return torch.cat(votes, 1) / n_voters[..., None]


def visible(entry_ordinals: Tensor, live: Tensor, ordinals: Tensor) -> Tensor:
    """Which entries the queries with ordinals [B, S] see: two times [B, H, T] → bool [B, H, S, T]."""
    return (entry_ordinals[:, :, None] <= ordinals[:, None, :, None]) & live[:, :, None]


def _clear(entries: Entries, ordinals: Tensor) -> list[int]:
    """How many leading entries every query sees from each of these ordinals [B, n] on, in all heads."""
    ascending = entries.ordinals.masked_fill(~entries.live, torch.iinfo(torch.int32).max)
    wanted = ordinals[:, None].expand(-1, ascending.shape[1], -1).contiguous()
    counts: list[int] = torch.searchsorted(ascending, wanted, right=True).amin((0, 1)).tolist()
    return counts
