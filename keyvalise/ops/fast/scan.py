"""What queries think of every stored vector, in one pass over the stored bytes: `ops.units.logits`.

Vectors are read where they lie, in float32, bfloat16 or float16; products and sums are float32.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from keyvalise.ops.fast import decode, launch, legible, plan


def available(q: Tensor, x: Tensor) -> bool:
    """Whether these vectors can be read, see `legible.flaw`."""
    return q.is_cpu and decode.available(x, x)


def logits(q: Tensor, x: Tensor) -> Tensor:
    """q·x: float32 [B, Hq, U] for q [B, Hq, D] and x [B, H, U, D], head h asking those of h // G.

    Cost     B·Hq·U·D time, each stored byte read once
    Raises   ValueError where x is not as `available` wants it, or the shapes do not fit
    """
    n_rows, n_heads, n, dim = x.shape
    flaw = legible.flaw(x, x)
    if flaw is not None:
        raise ValueError(flaw)
    if q.shape[::2] != (n_rows, dim) or q.shape[1] % n_heads:
        raise ValueError(f"queries {tuple(q.shape)} do not fit vectors {tuple(x.shape)}")
    q = q.float().contiguous()
    out = q.new_empty(n_rows, q.shape[1], n)
    if out.numel() == 0:
        return out
    is_large = out.numel() * dim > decode.SERIAL
    n_threads = torch.get_num_threads() if is_large else 1
    block = min(decode.LARGEST, max(decode.SMALLEST, n * n_rows * n_heads // (4 * n_threads)))
    told = {"out": out.data_ptr(), "q": q.data_ptr(), "k": x.data_ptr(), "itemsize": x.itemsize}
    told |= {"group": q.shape[1] // n_heads, "n_queries": 1, "key_dim": dim, "block": block}
    told |= {"n_lists": n_rows * n_heads, "n_heads": n_heads, "n_entries": n}
    told |= dict(zip(("k_row", "k_head", "k_entry", "k_channel"), x.stride(), strict=True))
    record = plan.LAYOUT.pack(*(told.get(name, 0) for name in plan.WHOLE), 1.0, 0.0, 1.0)
    launch.deal(_worker(x.dtype), record, n_threads)
    return out


def warm(dtype: torch.dtype) -> None:
    """Compile what compares vectors of this format, or load it from disk."""
    _worker(dtype)


@functools.cache
def _worker(dtype: torch.dtype) -> launch.Worker:
    from keyvalise.ops.fast import scan_kernel  # the compiler costs a second to import

    return launch.Worker.of(scan_kernel.build(legible.KINDS[dtype]))
