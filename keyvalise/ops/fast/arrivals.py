"""Who sees which entries, for all who weigh them: queries see what came before them and weighs something.

Axes   entries of [B, H, T]
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Stretch

NEVER = 2**31 - 1
"""The ordinal of an entry that nobody sees."""


def readable(entries: Entries) -> Tensor:
    """bool [B, H, T]: live, and not hidden by a log-weight of −inf."""
    return entries.live if entries.logw is None else entries.live & ~torch.isneginf(entries.logw)


def came(entries: Entries) -> Tensor:
    """int32 [B, H, T]: ordinals, NEVER where nothing can be read."""
    return torch.where(readable(entries), entries.ordinals, NEVER).int().contiguous()


def seen(stretch: Stretch, end: int, n_entries: int) -> int:
    """A bound on the entries that the columns before `end` can see: later tokens are the last entries."""
    rows = zip(stretch.leads, stretch.counts, strict=True)
    later = (max(lead + n - max(end, lead), 0) for lead, n in rows)
    return max(n_entries - min(later), 0)
