"""Attention of a few queries over many stored entries on a CUDA device, in one pass over the stored bytes.

The namesakes of `ops.fast.decode`, with the same axes and answers: q [B, Hq, S, D], Hq = G·H, query head h
reads kv head h // G; out [B, Hq, S, Dv] and the absolute lse [B, Hq, S], both float32; a query that sees
nothing is answered (0, −inf). The entries of a list are cut into chunks, so that a few heads keep the whole
device busy; a second kernel merges what chunks answer. Nothing waits for the device.

Numbers   products and sums are as exact as float32, or nearly (2^-21): see `sizes.Product`
Cost      each stored byte is read once for up to 64 queries of its kv head; G·S·(Dv + 1) floats a chunk
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops.fast import choose
from keyvalise.ops.fast.gpu import legible, sizes, start, told
from keyvalise.types.written import Codewords, Written

Side = tuple[told.Side, told.Shape]
"""Where keys or values lie, and what they look like."""


def available(k: Tensor, v: Tensor) -> bool:
    """Whether these stored entries can be read, see `legible.flaw`, and nobody forbids it."""
    return not choose.is_forbidden() and legible.flaw(k, v) is None


def reads(keys: Written, values: Written) -> bool:
    """Whether these can be read, see `legible.flaw_of`, and nobody forbids it."""
    return not choose.is_forbidden() and legible.flaw_of(keys) is None and legible.flaw_of(values) is None


def dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    visible: Tensor | None = None,
    logw: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Row b holds entries 0 … lengths[b] − 1 of every head; query (b, s) sees those before visible[b, s].

    Shapes   k [B, H, C, D], v [B, H, C, Dv], any strides but 1 in the last; lengths int32 [B], None = C;
             visible int32 [B, S] or [B, H, S], None = all; logw float32, broadcast to [B, H, C]
    Formula  lse = log Σ_i exp(softcap·tanh(scale·q·k_i / softcap) + logw_i);  out = Σ_i exp(… − lse)·v_i
    Raises   ValueError where `available` is false
    """
    _refuse(legible.flaw(k, v))
    n_rows, n_heads, n_entries, _ = k.shape
    if lengths is not None:
        if len(lengths) != n_rows:
            raise ValueError(f"{len(lengths)} lengths for {n_rows} rows")
        lengths = _counts(lengths, q)
    lists = told.Lists(n_rows * n_heads, n_heads, lengths)
    wide = None if logw is None else told.plane(logw.float(), n_rows, n_heads, n_entries)
    sides = told.side(k), told.side(v)
    _check(q, lists, (k, v))
    return _answer(q, sides, lists, n_entries, visible=visible, logw=wide, scale=scale, softcap=softcap)


def ragged(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    offsets: Tensor,
    visible: Tensor | None = None,
    logw: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Flat storage: head h of row b holds entries offsets[b·H + h] … offsets[b·H + h + 1] − 1.

    Shapes   k [N, D], v [N, Dv]; offsets int32 [B·H + 1], ascending; visible as in `dense`, counted from the
             beginning of each run; logw float32 [N]
    Formula, Raises   as `dense`
    """
    _refuse(legible.flaw(k, v))
    lists, wide = _flat(q, offsets, logw, k.shape[0])
    sides = told.side(k), told.side(v)
    _check(q, lists, (k, v))
    return _answer(q, sides, lists, k.shape[0], visible=visible, logw=wide, scale=scale, softcap=softcap)


def coded(
    q: Tensor,
    keys: Written,
    values: Written,
    *,
    offsets: Tensor,
    logw: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`ragged` over integers with steps and offsets, or names of codewords, spelled out a tile at a time.

    Raises   ValueError where `reads` is false
    """
    _refuse(legible.flaw_of(keys) or legible.flaw_of(values))
    n_entries = keys.codes.shape[0]
    lists, wide = _flat(q, offsets, logw, n_entries)
    sides = told.side_of(keys), told.side_of(values)
    _check(q, lists, (keys.codes, values.codes), keys.dim)
    for side in (keys, values):
        if isinstance(side, Codewords) and len(side.books) != lists.n_heads:
            raise ValueError(f"books of {len(side.books)} heads do not fit {lists.n_heads}")
    return _answer(q, sides, lists, n_entries, visible=None, logw=wide, scale=scale, softcap=softcap)


def _answer(
    q: Tensor,
    sides: tuple[Side, Side],
    lists: told.Lists,
    n_entries: int,
    *,
    visible: Tensor | None,
    logw: told.Plane | None,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    (keys, of_keys), (values, of_values) = sides
    q = q.contiguous()
    if q.numel() == 0 or n_entries == 0:
        out, lse = _room(q, of_values.dim)
        return out.zero_(), lse.fill_(-torch.inf)
    per_list, is_flat = q.shape[1] // lists.n_heads * q.shape[2], lists.offsets is not None
    chosen = sizes.decode(
        n_entries if is_flat else n_entries * lists.n_lists,
        per_list,
        width=max(of_keys.width, of_values.width),
        is_narrow=start.is_narrow(q, keys.at),
        n_processors=start.n_processors(q.device),
    )
    n_chunks = 0 if is_flat else -(-n_entries // chosen.chunk)
    n_items = n_entries // chosen.chunk + lists.n_lists if is_flat else lists.n_lists * n_chunks
    parts = q.new_empty((n_items, per_list, of_values.dim), dtype=torch.float32)
    norms, sums = q.new_empty((2, n_items, per_list), dtype=torch.float32)
    how = start.how(chosen, keys.at.dtype, lists.n_lists if is_flat else 1)
    cut = told.Cut(n_entries, chosen.chunk, n_chunks)
    asked = told.Asked(q, per_list, q.shape[2], _seen(visible, q, lists))
    given = (asked, keys, values, logw, lists, *cut, scale, softcap, of_keys, of_values, how)
    with start.on(q.device):
        from keyvalise.ops.fast.gpu import attend_kernel as kernel  # triton costs half a second to import

        split = kernel.split[n_items, -(-per_list // chosen.rows)]
        split(parts, norms, None if n_chunks == 1 else sums, *given, **start.options(chosen))
        if n_chunks == 1:
            return parts.view(*q.shape[:3], -1), norms.view(q.shape[:3])
        out, lse = _room(q, of_values.dim)
        lanes = (of_values.dim, sizes.power(of_values.dim), sizes.ITEMS, how.lift)
        merge = kernel.merge[lists.n_lists * per_list,]
        merge(out, lse, parts, norms, sums, lists, per_list, *cut, *lanes, **start.PLAIN)
    return out, lse


def _room(q: Tensor, value_dim: int) -> tuple[Tensor, Tensor]:
    """Room for out and lse."""
    shape = q.shape[:3]
    room = q.new_empty((*shape, value_dim), dtype=torch.float32)
    return room, q.new_empty(shape, dtype=torch.float32)


def _seen(visible: Tensor | None, q: Tensor, lists: told.Lists) -> told.Plane | None:
    if visible is None:
        return None
    by_head = visible if visible.ndim == 3 else visible[:, None]
    return told.plane(by_head.to(torch.int32), q.shape[0], lists.n_heads, q.shape[2])


def _flat(
    q: Tensor, offsets: Tensor, logw: Tensor | None, n_entries: int
) -> tuple[told.Lists, told.Plane | None]:
    n_lists = offsets.shape[0] - 1
    lists = told.Lists(n_lists, n_lists // max(1, q.shape[0]), None, _counts(offsets, q))
    wide = None if logw is None else told.plane(logw.float(), 1, 1, n_entries)._replace(row=0, head=0)
    return lists, wide


def _counts(x: Tensor, q: Tensor) -> Tensor:
    """x as the kernels read it; what comes from the host is handed over without waiting."""
    return x.to(q.device, torch.int32, non_blocking=True).contiguous()


def _refuse(flaw: str | None) -> None:
    if flaw is not None:
        raise ValueError(flaw)


def _check(q: Tensor, lists: told.Lists, stored: tuple[Tensor, Tensor], key_dim: int | None = None) -> None:
    """Kernels trust every number they are given."""
    k, v = stored
    n_rows, n_query, _, dim = q.shape
    is_fit = dim == (k.shape[-1] if key_dim is None else key_dim) and q.device == k.device == v.device
    if not is_fit or lists.n_lists != n_rows * lists.n_heads or n_query % max(1, lists.n_heads):
        raise ValueError(
            f"queries {tuple(q.shape)} on {q.device} do not fit {lists.n_lists} runs of keys "
            f"{tuple(k.shape)} on {k.device}"
        )
    if k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"keys {tuple(k.shape)} and values {tuple(v.shape)} differ in entries")
