"""Which entries may not be dropped: the first tokens of a row, its newest, all outside a span; by ordinal."""

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
    ordinals: Tensor,
    seen: Sequence[int],
    tokens: Sequence[int],
    *,
    sinks: Amount,
    recent: Amount,
    only: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """bool [B, H, T] for ordinals int32 [B, H, T], −1 where dead.

    only   (first, end) of the span of every row outside which nothing may be dropped, None: there is none
    """
    edges = [limits(s, n, sinks=sinks, recent=recent) for s, n in zip(seen, tokens, strict=True)]
    first, last = (
        edges[0] if len(edges) == 1 else torch.tensor(edges, device=ordinals.device).T[..., None, None]
    )
    guarded: Tensor = (ordinals >= 0) & ((ordinals < first) | (ordinals >= last))
    if only is None:
        return guarded
    begin, end = torch.tensor(only, device=ordinals.device).T[..., None, None]
    outside = (ordinals >= 0) & ~guarded & ((ordinals < begin) | (ordinals >= end))
    # The newest of them, as many as the sinks and recents leave room for.
    room = torch.tensor(tokens, device=ordinals.device)[:, None, None] - guarded.sum(-1, keepdim=True)
    guarded |= outside & (outside.flip(-1).cumsum(-1).flip(-1) <= room)
    return guarded


def total(seen: int, *, sinks: int, recent: int, only: tuple[int, int]) -> int:
    """How many of a row's tokens are protected where nothing limits them."""
    begin, end = only
    return seen - max(min(end, seen - recent) - max(begin, sinks), 0)
