"""Attention over entries as they are written, where a compiled kernel can read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops.attend import offsets
from keyvalise.ops.fast import choose, codes, decode
from keyvalise.ops.fast.gpu import decode as device
from keyvalise.ops.fast.gpu import legible
from keyvalise.types.written import Written


def attend(
    q: Tensor,
    keys: Written,
    values: Written,
    *,
    bounds: Sequence[int],
    index: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
    logw: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """`ops.attend.ragged` over what is written; None where entries must be spelled out first."""
    n_entries, n_heads = bounds[-1], (len(bounds) - 1) // q.shape[0]
    told: dict[str, Any] = {"logw": logw, "scale": scale, "softcap": softcap}
    if n_entries and index is None and q.device.type == "cuda":
        is_read = device.reads(keys, values)
        return device.coded(q, keys, values, offsets=offsets(bounds), **told) if is_read else None
    if q.device.type != "cpu" or n_entries == 0:
        return None
    per_head, kind = q.shape[1] * q.shape[2] // n_heads, codes.kind(keys)
    if not choose.is_faster(kind, torch.uint8, n_entries, per_head=per_head, key_dim=keys.dim):
        return None
    if not decode.reads(keys, values):
        return None
    return decode.coded(q, keys, values, offsets=offsets(bounds), index=index, **told)


def is_possible(place: torch.device) -> bool:
    """Whether `attend` may answer there, which tells whether queries are worth preparing for it."""
    return place.type == "cpu" or (place.type == "cuda" and legible.is_installed())
