"""Ids for sheets that come without: entries whose first values are the same bits are taken for one token.

In a first layer values depend on the token alone, so these are its ids by another name. They serve as
contexts for all layers and are not given back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from keyvalise.ops import repeats
from keyvalise.store.stream import part
from keyvalise.store.stream.sheet import Sheet

LEAST = 0.2
"""Share of entries that repeat others in the layer, from which on this is no accident."""


def ids(sheets: Sequence[Sheet]) -> Tensor | None:
    """Ids int32 [N] by the values of the first sheet; None where they hardly repeat, where ids are known, or
    where layers differ in which entries they hold.
    """
    first = sheets[0]
    if first.n == 0 or any(sheet.ids is not None or not _is_alike(sheet, first) for sheet in sheets):
        return None
    groups = repeats.groups(part.bits(first.values).transpose(1, 0, 2))
    if np.mean(groups != np.arange(first.n)) < LEAST:
        return None
    _, places = np.unique(groups, return_inverse=True)
    return torch.from_numpy(places.astype(np.int32))


def _is_alike(sheet: Sheet, other: Sheet) -> bool:
    """Whether both hold the same entries."""
    return sheet.ordinals.ndim == 1 and torch.equal(sheet.ordinals, other.ordinals)
