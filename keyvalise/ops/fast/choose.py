"""From which size on the compiled decode kernels beat torch: a small measured table, and how to overrule it.

Measured   by `bench/decode_kernels.py` and `bench/reading_kernels.py` on an AMD EPYC with AVX2 and an Intel
           Xeon with AVX-512 (torch 2.13, numba 0.68), one thread, all ways of a case in turns, least
           processor time of the repeats. A call costs about twice one of torch's attention and half one of
           `ops.attend`, so the size decides only against the former; many queries per kv head make attention
           a matrix product, where torch catches up. Where they disagree the EPYC decides: on the Xeon, which
           multiplies bfloat16, torch's attention over heads of 32 takes 0.7 of the kernel's time.
Knows not  whether the kernels can run at all: `decode.available` does.
"""

from __future__ import annotations

import functools
import os
from typing import Literal, NamedTuple

import torch

Kind = Literal[
    "dense",
    "ragged",
    "picked",
    "integers",
    "codewords",
    "scan",
    "choosing",
    "packing",
    "sums",
    "window",
    "nearest",
]
Rival = Literal["attend", "sdpa"]
"""The namesake in `ops.attend`, or torch's attention alone (ragged: in a loop over heads), without lse."""

VARIABLE = "KEYVALISE_FAST"
"""Environment variable: `always` or `never` overrule the table."""


class Bound(NamedTuple):
    """Faster from `least` key numbers on, up to `most` queries per kv head (`narrow` if dims are)."""

    least: int
    most: int
    narrow: int


NUMBERS = (torch.float32, torch.bfloat16, torch.float16)

TABLE: dict[tuple[Kind, Rival, torch.dtype], Bound] = {
    ("dense", "attend", torch.float32): Bound(0, 16, 8),
    ("dense", "attend", torch.bfloat16): Bound(0, 64, 16),
    ("dense", "attend", torch.float16): Bound(0, 64, 16),
    ("dense", "sdpa", torch.float32): Bound(2**20, 16, 8),
    ("dense", "sdpa", torch.bfloat16): Bound(2**16, 16, 8),
    ("dense", "sdpa", torch.float16): Bound(2**14, 32, 16),
    ("ragged", "attend", torch.float32): Bound(0, 16, 8),
    ("ragged", "attend", torch.bfloat16): Bound(0, 64, 16),
    ("ragged", "attend", torch.float16): Bound(0, 64, 16),
    ("picked", "attend", torch.float32): Bound(0, 16, 8),
    ("picked", "attend", torch.bfloat16): Bound(0, 32, 16),
    ("picked", "attend", torch.float16): Bound(0, 32, 16),
    ("ragged", "sdpa", torch.float32): Bound(0, 16, 8),
    ("ragged", "sdpa", torch.bfloat16): Bound(0, 16, 8),
    ("ragged", "sdpa", torch.float16): Bound(0, 32, 16),
    ("integers", "attend", torch.uint8): Bound(0, 64, 32),
    ("codewords", "attend", torch.uint8): Bound(0, 64, 32),
    ("scan", "attend", torch.float32): Bound(2**15, 64, 64),
    ("scan", "attend", torch.bfloat16): Bound(0, 64, 64),
    ("scan", "attend", torch.float16): Bound(0, 64, 64),
    ("choosing", "attend", torch.float32): Bound(0, 64, 64),
    ("nearest", "attend", torch.float32): Bound(2**16, 64, 64),
    **{("sums", "attend", dtype): Bound(0, 2**40, 2**40) for dtype in NUMBERS},
    **{("window", "attend", dtype): Bound(2**16, 2**40, 2**40) for dtype in NUMBERS},
    **{("packing", "attend", dtype): Bound(0, 64, 64) for dtype in NUMBERS},
}
"""The ragged `most` is that of dense: only one query per head was timed there."""

NARROW = 64
"""Key dims below this leave little to multiply per weight of the softmax."""


def is_faster(
    kind: Kind,
    dtype: torch.dtype,
    n_entries: int,
    *,
    per_head: int = 1,
    key_dim: int = 128,
    rival: Rival = "attend",
    force: bool | None = None,
) -> bool:
    """Whether to call the kernel for n_entries stored entries of all heads and per_head = G·S queries.

    `force`, else the environment variable, else the table decides.
    """
    forced = _forced() if force is None else force
    if forced is not None:
        return forced
    bound = TABLE.get((kind, rival, dtype))
    if bound is None:
        return False
    most = bound.narrow if key_dim < NARROW else bound.most
    return n_entries * key_dim >= bound.least and per_head <= most


def is_forbidden() -> bool:
    """Whether nobody wants kernels."""
    return _forced() is False


@functools.cache
def _forced() -> bool | None:
    return {"always": True, "never": False}.get(os.environ.get(VARIABLE, ""))
