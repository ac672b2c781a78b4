"""Attention mass per entry on a CUDA device, for any number of queries and entries at once.

The namesakes of `ops.mass`, with the same arguments and answers. Logits live in tiles on the device: what is
held beside the arguments is one number per query, chunk and entry, never queries times entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops.fast import arrivals, choose
from keyvalise.ops.fast.gpu import legible, sizes, start, told
from keyvalise.types.data import Entries, Piece
from keyvalise.types.geometry import Geometry


def flaw(q: Tensor, entries: Entries) -> str | None:
    """Why no kernel can weigh these entries, or None."""
    keys = entries.keys()
    if found := legible.flaw_at(q, keys, entries.live):
        return found
    if q.dtype not in legible.KINDS or keys.dtype not in legible.KINDS:
        return f"queries and keys must be {' or '.join(legible.KINDS.values())}; got {q.dtype}, {keys.dtype}"
    if q.shape[-1] != keys.shape[-1] or q.shape[1] % keys.shape[1]:
        return f"queries {tuple(q.shape)} do not fit keys {tuple(keys.shape)}"
    return legible.flaw_in(keys.shape[-1])


def available(q: Tensor, entries: Entries) -> bool:
    """Whether kernels can weigh these entries, and nobody forbids it."""
    return not choose.is_forbidden() and flaw(q, entries) is None


def column_sums(geometry: Geometry, piece: Piece, entries: Entries) -> Tensor:
    """How much attention the queries of a piece paid to every entry, as the mean over the group.

    Shapes   → [B, H, T] float32, zero in dead slots
    Formula  Σ_s mean_g exp(scale·q_gs·k_t + logw_t − lse_gs) over the real queries s that see t
    Cost     Hq·S·T·D time, tiles of queries older than a tile of entries left out
    Raises   ValueError where `available` is false
    """
    _refuse(flaw(piece.q, entries))
    n_rows, n_heads, n_entries = entries.live.shape
    group = piece.q.shape[1] // n_heads
    newest = piece.stretch.ordinals(piece.q.device)
    out = _columns(geometry, piece.q, piece.lse, newest, entries, per=1, share=1.0 / group)
    return out.view(n_rows, n_heads, n_entries)


def window_mass(
    geometry: Geometry, q: Tensor, ordinals: Tensor, entries: Entries, *, lse: Tensor | None = None
) -> Tensor:
    """Mean over the given queries of their softmax over the live entries they see.

    Shapes   q [B, Hq, n, D], ordinals int [B, n] (−1: no query) → [B, Hq, T] float32, zero in dead slots;
             lse float32 [B, Hq, n] of these queries over these entries, found in a pass of its own if None
    Formula  mean_s softmax_t(scale·q_s·k_t + logw_t); queries that see nothing are left out of the mean
    Cost     Hq·n·T·D time, twice without lse
    Raises   ValueError where `available` is false
    """
    _refuse(flaw(q, entries))
    n_heads = entries.live.shape[1]
    group = q.shape[1] // n_heads
    norms = _norms(geometry, q, ordinals, entries) if lse is None else lse
    votes = _columns(geometry, q, norms, ordinals, entries, per=group, share=1.0)
    if entries.live.shape[2] == 0:
        return votes.view(*q.shape[:2], 0)
    oldest = arrivals.came(entries).amin(-1)
    n_voters = (oldest[..., None] <= ordinals[:, None]).sum(-1).clamp(min=1).repeat_interleave(group, 1)
    return votes.view(*q.shape[:2], -1) / n_voters[..., None]


def _columns(
    geometry: Geometry,
    q: Tensor,
    lse: Tensor,
    newest: Tensor,
    entries: Entries,
    *,
    per: int,
    share: float,
) -> Tensor:
    """[B·H, per, T]: the queries of a kv head in `per` lists."""
    n_rows, n_heads, n_entries = entries.live.shape
    n_asked = q.shape[1] // n_heads * q.shape[2] // per
    out = q.new_zeros((n_rows * n_heads, per, n_entries), dtype=torch.float32)
    if q.numel() == 0 or n_entries == 0:
        return out
    keys, shape = _keys(entries)
    chosen = sizes.tiles(n_asked, width=shape.width, is_narrow=start.is_narrow(q, keys.at))
    logw, came, own = _beside(entries, newest)
    numbers = (n_heads, n_asked, q.shape[2], n_entries, geometry.scale, geometry.softcap, share)
    how = start.how(chosen, keys.at.dtype)
    with start.on(q.device):
        from keyvalise.ops.fast.gpu import mass_kernel as kernel  # triton costs half a second to import

        grid = (-(-n_entries // chosen.block), n_rows * n_heads)
        given = (q.contiguous(), lse.float().contiguous(), keys, logw, came, own)
        kernel.columns[grid](out, *given, *numbers, per, shape, how, **start.options(chosen))
    return out


def _norms(geometry: Geometry, q: Tensor, newest: Tensor, entries: Entries) -> Tensor:
    """[B, Hq, n]: the log-sum-exp of every query over the live entries it sees."""
    n_rows, n_heads, n_entries = entries.live.shape
    if q.numel() == 0 or n_entries == 0:
        return q.new_full(q.shape[:3], -torch.inf, dtype=torch.float32)
    n_asked, n_lists = q.shape[1] // n_heads * q.shape[2], n_rows * n_heads
    keys, shape = _keys(entries)
    chosen = sizes.decode(
        n_entries * n_lists,
        n_asked,
        width=shape.width,
        is_narrow=start.is_narrow(q, keys.at),
        n_processors=start.n_processors(q.device),
    )
    n_chunks = -(-n_entries // chosen.chunk)
    parts = q.new_empty((n_lists, n_chunks, n_asked), dtype=torch.float32)
    logw, came, own = _beside(entries, newest)
    numbers = (n_heads, n_asked, q.shape[2], n_entries, chosen.chunk, n_chunks)
    how = start.how(chosen, keys.at.dtype)
    with start.on(q.device):
        from keyvalise.ops.fast.gpu import mass_kernel as kernel  # triton costs half a second to import

        grid = (n_lists * n_chunks, -(-n_asked // chosen.rows))
        given = (q.contiguous(), keys, logw, came, own)
        rest = (geometry.scale, geometry.softcap, shape, how)
        kernel.norms[grid](parts, *given, *numbers, *rest, **start.options(chosen))
    return parts.logsumexp(1).view(q.shape[:3])


def _keys(entries: Entries) -> tuple[told.Side, told.Shape]:
    keys = entries.keys()
    return told.side(keys if keys.stride(-1) == 1 else keys.contiguous())


def _beside(entries: Entries, newest: Tensor) -> tuple[told.Plane | None, told.Plane, Tensor]:
    """Log-weights, when entries came, and the ordinals of queries."""
    shape = entries.live.shape
    logw = None if entries.logw is None else told.plane(entries.logw.float(), *shape)
    return logw, told.plane(arrivals.came(entries), *shape), newest.to(torch.int32).contiguous()


def _refuse(flaw: str | None) -> None:
    if flaw is not None:
        raise ValueError(flaw)
