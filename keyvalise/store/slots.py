"""Reading keys by slot: as if the dropped tokens had never been.

A key was stored at its token's own position. Read by slot, it stands at its place among the stored entries of
its head, and the queries behind the last of them; only differences of positions matter, so both are shifted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import rope
from keyvalise.types.data import Queries


def turned_queries(queries: Queries) -> Tensor:
    """The queries [B, Hq, S, D] at their slots, or as they came where keys are read where they stand."""
    if queries.slot_shift is None or queries.rope is None:
        return queries.q
    shift = torch.tensor(queries.slot_shift, device=queries.q.device)[:, None, None]
    turned = rope.shift(queries.q, shift.expand(-1, 1, queries.q.shape[2]), queries.rope)
    return turned.to(queries.q.dtype)


def turned_keys(keys: Tensor, shift: Tensor, queries: Queries) -> Tensor:
    """Keys [..., D] moved by `shift` positions [...], in their own dtype; a layer without rotation reads
    them as they are.
    """
    if queries.rope is None:
        return keys
    return rope.shift(keys, shift, queries.rope).to(keys.dtype)
