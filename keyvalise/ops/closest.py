"""Which of many centres is closest to every vector, for many sets at once: what k-means spends its time on.

Axes   P sets that know nothing of each other, n vectors [P, n, d], k centres [P, k, d]
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from keyvalise.ops.fast import nearest as fast

BLOCK = 2**20
"""Products that are held at once: what a cache near the processor holds."""


def best(x: Tensor, centres: Tensor, less: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """int64 [P, n]: the centre with the largest x·c − less, the first of several; [P, n]: how large it is.

    less   [P, k], None: 0;  ‖c‖²/2 makes the best centre the nearest one
    """
    if fast.serves(x, centres):
        return fast.best(x, centres, less)
    own, found = x.new_empty(x.shape[:2], dtype=torch.long), x.new_empty(x.shape[:2])
    step = max(1, BLOCK // max(1, centres.shape[0] * centres.shape[1]))
    for begin in range(0, x.shape[1], step):
        block = slice(begin, begin + step)
        products = x[:, block] @ centres.mT
        products = products if less is None else products.sub_(less[:, None])
        found[:, block], own[:, block] = products.max(-1)
    return own, found


def approaching(x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A function of a squared distance [P, n] and of one more centre of every set [P, d]: the distance to the
    nearest of all, which is exactly zero where x is one. The distance given may be overwritten.
    """
    if fast.leads(x):
        return partial(fast.approach_, x.mT.contiguous())

    def approach(distance: Tensor, centres: Tensor) -> Tensor:
        return torch.minimum(distance, (x - centres[:, None]).square().sum(-1))

    return approach
