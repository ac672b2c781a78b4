"""`ops.units.within`, compiled: which units are read, without sorting them all."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor


@functools.cache
def available() -> bool:
    """Whether there is a compiler."""
    return importlib.util.find_spec("numba") is not None


def within(ranking: Tensor, sizes: Tensor, amounts: tuple[Tensor, ...]) -> list[Tensor]:
    """As `units.within`, on the CPU.

    Cost   three rounds over all units for every amount
    """
    n_lists, n = ranking.shape[0] * ranking.shape[1], ranking.shape[-1]
    edges = torch.stack([*amounts], -1).view(n_lists, -1).cumsum(-1)
    found = np.empty((len(amounts), n_lists, n), np.int64)
    counts = np.zeros((len(amounts), n_lists), np.int64)
    given = (ranking.float().contiguous(), sizes.int().contiguous())
    _kernels().within(*(x.numpy().reshape(n_lists, n) for x in given), edges.numpy(), found, counts)
    most = counts.max(1, initial=0)
    return [
        torch.from_numpy(found[i, :, : most[i]].copy()).view(*ranking.shape[:2], -1)
        for i in range(len(amounts))
    ]


def _kernels() -> Any:
    from keyvalise.ops.fast import within_kernel

    return within_kernel
