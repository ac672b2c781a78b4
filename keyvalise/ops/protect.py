"""Which entries may not be dropped: the first tokens of a row and its newest ones, by ordinal."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from keyvalise.types.quantity import Amount, count


def limits(seen: int, tokens: int, *, sinks: Amount, recent: Amount) -> tuple[int, int]:
    """(sinks end, recents begin) as ordinals of one row whose stage keeps `tokens` entries per head.

    Where more is protected than kept, the sinks stay first, then the newest, up to the count.
    """
    first = min(count(sinks, tokens), tokens)
    last = min(count(recent, tokens), tokens - first)
    return first, max(seen - last, first)


def mask(
    ordinals: Tensor, seen: Sequence[int], tokens: Sequence[int], *, sinks: Amount, recent: Amount
) -> Tensor:
    """bool [B, H, T] for ordinals int32 [B, H, T], −1 where dead."""
    edges = [limits(s, n, sinks=sinks, recent=recent) for s, n in zip(seen, tokens, strict=True)]
    first, last = torch.tensor(edges, device=ordinals.device).T[..., None, None]
    guarded: Tensor = (ordinals < first) | (ordinals >= last)
    return (ordinals >= 0) & guarded
