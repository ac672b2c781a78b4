"""Attention of a few queries over many stored entries on the CPU, in one pass over the stored bytes.

The mathematics of `ops.attend`, for decode: keys and values are read where they lie, in float32, bfloat16 or
float16, without a widened copy; all arithmetic is float32. Axes as there: q [B, Hq, S, D], Hq = G·H, query head h
reads kv head h // G. Every function returns (out [B, Hq, S, Dv] float32, lse [B, Hq, S] float32, absolute); a
query that sees nothing is answered (0, −inf). The compiler is imported on first use.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from keyvalise.ops.fast import launch, plan

KINDS = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}

LANES = 8
"""Key and value dims must be multiples of it."""

_SMALLEST, _LARGEST = 128, 1024
"""Entries of a block; every thread should get several."""

_SERIAL = 500_000
"""Multiplications below which waking a second thread costs more than it saves."""


class _Store(NamedTuple):
    """Where entries lie: `n_lists` runs, of `n_entries` each or, with offsets, together."""

    k: Tensor
    v: Tensor
    n_lists: int
    n_heads: int
    n_entries: int
    strides: tuple[int, ...]
    lengths: Tensor | None = None
    offsets: Tensor | None = None
    logw: Tensor | None = None
    logw_strides: tuple[int, ...] = (0, 0)


def available(k: Tensor, v: Tensor) -> bool:
    """Whether these stored entries can be read: numba is installed, they lie on the CPU in a known form."""
    return _is_installed() and _flaw(k, v) is None


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
    strides = (*(step * k.itemsize for step in k.stride()[:3]), *(step * v.itemsize for step in v.stride()[:3]))
    if lengths is not None:
        lengths = _whole(lengths).expand(n_rows).contiguous()
    store = _Store(k, v, n_rows * n_heads, n_heads, n_entries, strides, lengths)
    if logw is not None:
        wide = _unit(logw.float().expand(n_rows, n_heads, n_entries))
        store = store._replace(logw=wide, logw_strides=wide.stride()[:2])
    return _answer(q, store, visible, scale, softcap)


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
    Formula, Cost, Raises   as `dense`
    """
    n_lists = offsets.shape[0] - 1
    strides = (0, 0, k.stride(0) * k.itemsize, 0, 0, v.stride(0) * v.itemsize)
    wide = None if logw is None else _unit(logw.float().expand(k.shape[0]))
    n_heads = n_lists // max(1, q.shape[0])
    store = _Store(k, v, n_lists, n_heads, k.shape[0], strides, None, _whole(offsets).contiguous(), wide)
    return _answer(q, store, visible, scale, softcap)


def warm(kinds: Iterable[str] = KINDS.values(), progress: Callable[[str, float], None] | None = None) -> None:
    """Compile, or load from disk, one worker per stored form; `progress` gets its name and the seconds it took."""
    for kind in kinds:
        start = time.perf_counter()
        _worker(kind)
        if progress is not None:
            progress(kind, time.perf_counter() - start)


def _answer(
    q: Tensor, store: _Store, visible: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    k, v, n_lists, n_heads, n_entries = store[:5]
    _check(q, store)
    q = q.float().contiguous()
    n_rows, n_query, n_queries, dim = q.shape
    group, value_dim = n_query // n_heads, v.shape[-1]
    total = n_entries if store.offsets is not None else n_entries * n_lists
    n_threads = torch.get_num_threads() if total * group * n_queries * (dim + value_dim) > _SERIAL else 1
    block = min(_LARGEST, max(_SMALLEST, total // (4 * n_threads)))
    n_blocks = n_lists + total // block
    if store.offsets is None:
        n_blocks = n_lists * max(1, (n_entries + block - 1) // block)
    seen, seen_strides = None, (0, 0)
    if visible is not None:
        seen = _unit(_whole(visible if visible.ndim == 3 else visible[:, None]).expand(n_rows, n_heads, n_queries))
        seen_strides = seen.stride()[:2]
    out, lse = q.new_empty((n_rows, n_query, n_queries, value_dim)), q.new_empty((n_rows, n_query, n_queries))
    parts = q.new_empty(n_blocks * group * n_queries * (value_dim + 2))
    record = plan.LAYOUT.pack(
        *(parts.data_ptr(), out.data_ptr(), lse.data_ptr(), q.data_ptr(), k.data_ptr(), v.data_ptr()),
        *(0 if x is None else x.data_ptr() for x in (store.logw, seen, store.lengths, store.offsets)),
        *(n_lists, n_heads, group, n_queries, n_entries, dim, value_dim, block),
        *store.strides,
        *store.logw_strides,
        *seen_strides,
        *(scale, softcap or 0.0),
    )
    room = ctypes.create_string_buffer(record + bytes(8 * (n_lists + 1)))
    launch.run(_worker(KINDS[k.dtype]), ctypes.addressof(room), n_threads)
    return out, lse


def _whole(x: Tensor) -> Tensor:
    return x.to(torch.int32)


def _unit(x: Tensor) -> Tensor:
    """x with neighbours side by side in its last axis."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _flaw(k: Tensor, v: Tensor) -> str | None:
    """Why these entries cannot be read, or None."""
    if k.device.type != "cpu" or v.device.type != "cpu":
        return "keys and values must lie on the CPU"
    if k.dtype not in KINDS or k.dtype != v.dtype:
        return f"keys and values must share one dtype of {', '.join(KINDS.values())}; got {k.dtype} and {v.dtype}"
    if k.stride(-1) != 1 or v.stride(-1) != 1:
        return "keys and values must have stride 1 in the last axis"
    if k.shape[-1] % LANES or v.shape[-1] % LANES:
        return f"key and value dims must be multiples of {LANES}; got {k.shape[-1]} and {v.shape[-1]}"
    return None


def _check(q: Tensor, store: _Store) -> None:
    flaw = _flaw(store.k, store.v)
    if flaw is not None:
        raise ValueError(flaw)
    n_rows, n_query, _, dim = q.shape
    if dim != store.k.shape[-1] or store.n_lists != n_rows * store.n_heads or n_query % store.n_heads:
        raise ValueError(f"queries {tuple(q.shape)} do not fit {store.n_lists} runs of keys {tuple(store.k.shape)}")
    if store.k.shape[:-1] != store.v.shape[:-1]:
        raise ValueError(f"keys {tuple(store.k.shape)} and values {tuple(store.v.shape)} differ in entries")


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("numba") is not None


@functools.cache
def _worker(kind: str) -> Any:
    from keyvalise.ops.fast import kernel  # the compiler costs a second to import

    return launch.worker(kernel.build(kind))
