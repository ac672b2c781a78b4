"""Rows of a flat run, head by head, for codes whose parameters are a head's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Do = Callable[[int, Tensor], tuple[Tensor, ...]]
"""(head, where its rows stand: int64 [M]) → tensors [M, …]."""


def by_head(do: Do, heads: Tensor, n_heads: int) -> tuple[Tensor, ...]:
    """What `do` makes of every head's rows, in the rows' order; asks the device once.

    Shapes   heads int64 [N] → tensors [N, …]
    """
    order = torch.argsort(heads, stable=True)
    counts = torch.bincount(heads, minlength=n_heads).tolist()
    made = [do(head, rows) for head, rows in enumerate(order.split(counts))]
    back = order.argsort()
    return tuple(torch.cat(parts)[back] for parts in zip(*made, strict=True))
