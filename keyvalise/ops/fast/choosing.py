"""Which units are read: `ops.units.votes` and `ops.units.within` on the CPU, without sorting them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from keyvalise.ops.fast import spread

LEAST = 2**16
"""Numbers that are worth a thread."""


def votes(logits: Tensor, sizes: Tensor) -> Tensor:
    """As `units.votes`.

    Cost   two rounds over all logits
    """
    n_lists, n_units = sizes.shape[0] * sizes.shape[1], sizes.shape[2]
    found = torch.zeros(sizes.shape, dtype=torch.float32)
    if found.numel():
        asked = logits.float().contiguous().numpy().reshape(n_lists, -1, n_units)
        least = _least(asked[0].size)
        spread.run(_kernels().votes, (asked, _lists(sizes.int())), _lists(found), least=least)
    return found


def within(ranking: Tensor, sizes: Tensor, amounts: tuple[Tensor, ...]) -> list[Tensor]:
    """As `units.within`.

    Cost   two rounds over all units, and two more for every amount
    """
    n_lists, n = ranking.shape[0] * ranking.shape[1], ranking.shape[-1]
    edges = torch.stack([*amounts], -1).view(n_lists, -1).cumsum(-1)
    found = np.empty((n_lists, len(amounts), n), np.int64)
    counts = np.zeros((n_lists, len(amounts)), np.int64)
    given = (_lists(ranking.float()), _lists(sizes.int()), edges.numpy())
    spread.run(_kernels().within, given, found, counts, least=_least(n))
    chosen = []
    for i, most in enumerate(counts.max(0, initial=0)):
        is_one = np.arange(most) < counts[:, i, None]
        chosen.append(torch.from_numpy(np.where(is_one, found[:, i, :most], -1)).view(*ranking.shape[:2], -1))
    return chosen


def _lists(x: Tensor) -> Any:
    """x [B, A, U] as numpy [B·A, U]."""
    return x.contiguous().numpy().reshape(-1, x.shape[-1]) if x.numel() else np.empty((0, 0), np.float32)


def _least(n: int) -> int:
    """Lists of so many numbers each that are worth a thread."""
    return -(-LEAST // max(1, n))


def _kernels() -> Any:
    from keyvalise.ops.fast import choosing_kernel

    return choosing_kernel
