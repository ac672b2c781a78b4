"""Attention of a few queries over many stored entries on the CPU, in one pass over the stored bytes.

The mathematics of `ops.attend`, for decode: keys and values are read where they lie, in float32, bfloat16
or float16, without a widened copy; all arithmetic is float32. Axes as there: q [B, Hq, S, D], Hq = G·H,
query head h reads kv head h // G. Every function returns out [B, Hq, S, Dv] and the absolute lse [B, Hq, S],
both float32; a query that sees nothing is answered (0, −inf). The compiler is imported on first use.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from keyvalise.ops.fast import choose, codes, launch, legible, plan
from keyvalise.types.written import Codewords, Written

WORKERS = (*legible.KINDS.values(), "integers", "codewords")
"""How entries may be stored."""

SMALLEST, LARGEST = 128, 1024
"""Entries of a block; every thread should get several."""

SERIAL = 500_000
"""Multiplications below which waking a second thread costs more than it saves."""


class _Runs(NamedTuple):
    """Where the entries of every (row, head) lie: strides in elements, what says how many, log-weights."""

    n_lists: int
    n_heads: int
    n_entries: int
    k_strides: tuple[int, ...]
    v_strides: tuple[int, ...]
    lengths: Tensor | None = None
    offsets: Tensor | None = None
    logw: Tensor | None = None
    places: Tensor | None = None
    logw_strides: tuple[int, ...] = (0, 0)


def available(k: Tensor, v: Tensor) -> bool:
    """Whether these stored entries can be read: numba is installed, they lie on the CPU in a known form."""
    return legible.is_installed() and legible.flaw(k, v) is None


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
    Cost     B·Hq·S·C·(D + Dv) time, each stored byte read once; B·Hq·S·Dv floats per block of entries
    Raises   ValueError where `available` is false for another reason than a missing compiler
    """
    n_rows, n_heads, n_entries, _ = k.shape
    if lengths is not None and (lengths.dtype is not torch.int32 or lengths.stride() != (1,)):
        lengths = lengths.to(torch.int32).contiguous()
    runs = _Runs(n_rows * n_heads, n_heads, n_entries, k.stride(), v.stride(), lengths)
    if logw is not None:
        wide = _unit(logw.float().expand(n_rows, n_heads, n_entries))
        runs = runs._replace(logw=wide, logw_strides=wide.stride()[:2])
    return _answer(q, k, v, runs, visible=visible, scale=scale, softcap=softcap)


def ragged(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    offsets: Tensor,
    index: Tensor | None = None,
    visible: Tensor | None = None,
    logw: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Flat storage: head h of row b holds entries offsets[b·H + h] … offsets[b·H + h + 1] − 1.

    Shapes   k [N, D], v [N, Dv]; offsets int32 [B·H + 1], ascending; visible as in `dense`, counted from the
             beginning of each run; logw float32 [N]; index int [M]: entry i is stored at index[i], None = i
    Formula, Cost, Raises   as `dense`
    """
    n_lists = offsets.shape[0] - 1
    n_heads = n_lists // max(1, q.shape[0])
    offsets = offsets.to(torch.int32).contiguous()
    wide = None if logw is None else _unit(logw.float().expand(k.shape[0]))
    strides = (0, 0, *k.stride()), (0, 0, *v.stride())
    index, n_entries = _index(index, k.shape[0])
    runs = _Runs(n_lists, n_heads, n_entries, *strides, None, offsets, wide, index)
    return _answer(q, k, v, runs, visible=visible, scale=scale, softcap=softcap)


def coded(
    q: Tensor,
    keys: Written,
    values: Written,
    *,
    offsets: Tensor,
    index: Tensor | None = None,
    logw: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """`ragged` over integers with steps and offsets, or names of codewords, spelled out a tile at a time.

    Needs    what `reads` says, to be true
    Cost     as `dense`, and as much again to spell out, once for all queries of a head
    """
    n_lists, n_stored = offsets.shape[0] - 1, keys.codes.shape[0]
    wide = None if logw is None else _unit(logw.float().expand(n_stored))
    index, n_entries = _index(index, n_stored)
    strides = (0, 0, *keys.codes.stride()), (0, 0, *values.codes.stride())
    offsets = offsets.to(torch.int32).contiguous()
    n_heads = n_lists // max(1, q.shape[0])
    for side in (keys, values):
        if isinstance(side, Codewords) and len(side.books) != n_heads:
            raise ValueError(f"books of {len(side.books)} heads do not fit {n_heads}")
    runs = _Runs(n_lists, n_heads, n_entries, *strides, None, offsets, wide, index)
    return _answer(
        q, keys.codes, values.codes, runs, visible=None, scale=scale, softcap=softcap, of=(keys, values)
    )


def serves(kind: choose.Kind, k: Tensor, v: Tensor, *, per_head: int, rival: choose.Rival = "attend") -> bool:
    """Whether these entries can be read, and for `per_head` queries of a kv head faster than by the rival."""
    dim = k.shape[-1]
    is_faster = choose.is_faster(kind, k.dtype, k.numel() // dim, per_head=per_head, key_dim=dim, rival=rival)
    return is_faster and available(k, v)


def reads(keys: Written, values: Written) -> bool:
    """Whether these can be read: numba is installed, they lie on the CPU, their pieces fit lanes."""
    return legible.is_installed() and codes.flaw(keys, values) is None


def warm(kinds: Iterable[str] = WORKERS, progress: Callable[[str, float], None] | None = None) -> None:
    """Compile, or load from disk, one worker per kind; `progress` gets its name and its seconds."""
    for kind in kinds:
        start = time.perf_counter()
        _worker(kind)
        if progress is not None:
            progress(kind, time.perf_counter() - start)


def _answer(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    runs: _Runs,
    *,
    visible: Tensor | None,
    scale: float,
    softcap: float | None,
    of: tuple[Written, Written] | None = None,
) -> tuple[Tensor, Tensor]:
    n_rows, n_query, n_queries, dim = q.shape
    n_lists, n_heads = runs.n_lists, runs.n_heads
    key_dim, value_dim = (k.shape[-1], v.shape[-1]) if of is None else (of[0].dim, of[1].dim)
    # Of integers, who calls has made sure.
    flaw = legible.flaw(k, v) if of is None else None
    if flaw is not None:
        raise ValueError(flaw)
    _check(q, k, v, runs, key_dim)
    q = q.float().contiguous()
    group = n_query // n_heads
    n_threads, block, n_blocks = _share(runs, group * n_queries * (dim + value_dim))
    out = torch.empty_like(q) if dim == value_dim else q.new_empty(n_rows, n_query, n_queries, value_dim)
    lse = q.new_empty(n_rows, n_query, n_queries)
    parts = None if n_blocks == 0 else q.new_empty(n_blocks * group * n_queries * _lines(value_dim + 2))
    seen: Tensor | None = None
    seen_strides: tuple[int, ...] = (0, 0)
    if visible is not None:
        seen = visible if visible.ndim == 3 else visible[:, None]
        seen = _unit(seen.to(torch.int32).expand(n_rows, n_heads, n_queries))
        seen_strides = seen.stride()[:2]
    given = (parts, seen, runs.lengths, runs.offsets, runs.logw, runs.places)
    of_codes = {} if of is None else codes.told(*of)
    record = plan.LAYOUT.pack(
        *(out.data_ptr(), lse.data_ptr(), q.data_ptr(), k.data_ptr(), v.data_ptr()),
        *[0 if x is None else x.data_ptr() for x in given],
        *(k.itemsize, group, n_queries, dim, value_dim, block),
        *(*runs[:3], k.shape[0]),
        *runs.k_strides,
        *runs.v_strides,
        *runs.logw_strides,
        *seen_strides,
        *([of_codes.get(name, 0) for name in plan.OF_CODES] if of else _OF_NO_CODES),
        *(scale, softcap or 0.0, of_codes.get("turn_scaling", 1.0)),
    )
    worker = _worker(codes.kind(of[0]) if of else legible.KINDS[k.dtype])
    launch.deal(worker, record, n_threads, n_counters=n_lists + 1)
    return out, lse


_OF_NO_CODES = (0,) * len(plan.OF_CODES)


def _share(runs: _Runs, per_entry: int) -> tuple[int, int, int]:
    """How many threads, entries of a block, and blocks at most; 0 where every run is one block."""
    n_lists, _, n_entries = runs[:3]
    total = n_entries if runs.offsets is not None else n_entries * n_lists
    n_threads = torch.get_num_threads() if total * per_entry > SERIAL else 1
    block = min(LARGEST, max(SMALLEST, total // (4 * n_threads)))
    if n_entries <= block:
        return n_threads, block, 0
    if runs.offsets is not None:
        return n_threads, block, n_lists + total // block
    return n_threads, block, n_lists * ((n_entries + block - 1) // block)


def _lines(n: int) -> int:
    """n numbers in whole lines."""
    return -(-n // plan.LINE) * plan.LINE


def _index(index: Tensor | None, n_stored: int) -> tuple[Tensor | None, int]:
    """Where entries are stored, and how many there are to read."""
    if index is None:
        return None, n_stored
    return index.to(torch.int32).contiguous(), len(index) if n_stored else 0


def _unit(x: Tensor) -> Tensor:
    """x with neighbours side by side in its last axis."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _check(q: Tensor, k: Tensor, v: Tensor, runs: _Runs, key_dim: int) -> None:
    """Compiled code trusts every number it is given."""
    n_rows, n_query, _, dim = q.shape
    if dim != key_dim or runs.n_lists != n_rows * runs.n_heads or n_query % runs.n_heads or not q.is_cpu:
        raise ValueError(f"queries {tuple(q.shape)} do not fit {runs.n_lists} runs of keys {tuple(k.shape)}")
    if k.shape[:-1] != v.shape[:-1]:
        raise ValueError(f"keys {tuple(k.shape)} and values {tuple(v.shape)} differ in entries")
    if runs.lengths is not None and len(runs.lengths) != n_rows:
        raise ValueError(f"{len(runs.lengths)} lengths for {n_rows} rows")


@functools.cache
def _worker(kind: str) -> launch.Worker:
    from keyvalise.ops.fast import kernel  # the compiler costs a second to import

    return launch.Worker.of(kernel.build(kind))
