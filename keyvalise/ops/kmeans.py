"""k-means for many sets of vectors at once; the same for the same seed.

Shapes   vectors [P, n, d], centres [P, k, d]: P sets that know nothing of each other
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import closest

PASSES, ENOUGH = 15, 1e-3
"""Most rounds over all vectors, and the share of the error, over all sets, that is worth another."""

STARTS = 2**13
"""Vectors at least among which the first centres are drawn."""


@dataclass(frozen=True, slots=True)
class Found:
    """centres [P, k, d]; error float32 [P]: mean squared distance of the vectors to their centre."""

    centres: Tensor
    error: Tensor


def nearest(x: Tensor, centres: Tensor) -> Tensor:
    """int64 [P, n]: the centre of every vector."""
    return _assigned(x, centres)[0]


def fit(x: Tensor, k: int, *, seed: int = 0, passes: int = PASSES, batch: int = 2**16) -> Found:
    """k centres of every set; where there are fewer than k different vectors, each is one.

    The first centres are drawn, each with a chance in proportion to its squared distance from those before
    it; a centre that loses all its vectors goes to the vector that lies farthest from its own. Sets of more
    than `batch` vectors move their centres batch by batch, to the mean of all that a centre has met.
    """
    noise, x = torch.Generator(x.device).manual_seed(seed), x.float()
    order = torch.randperm(x.shape[1], generator=noise, device=x.device)
    batches = order.split(batch)
    centres = _first(x[:, order[: max(4 * k, STARTS)]], k, noise)
    best, met = Found(centres, x.new_full((x.shape[0],), math.inf)), x.new_zeros(x.shape[0], k)
    for _ in range(passes + 1):
        own, error = _assigned(x, centres)
        is_better = error < best.error
        is_done = bool(error.sum() >= best.error.sum() * (1 - ENOUGH))
        kept = torch.where(is_better[:, None, None], centres, best.centres)
        best = Found(kept, torch.minimum(error, best.error))
        if is_done:
            break
        if len(batches) == 1:
            centres, _ = _moved(x, own, centres, torch.zeros_like(met))
            continue
        for part in batches:
            centres, met = _moved(x[:, part], nearest(x[:, part], centres), centres, met)
    return best


def _assigned(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """(int64 [P, n]: the nearest centre of every vector, [P]: their mean squared distance).

    Formula  argmin ‖x − c‖² = argmax x·c − ‖c‖²/2, and the distance is ‖x‖² less twice that
    """
    own, product = closest.best(x, centres, centres.square().sum(-1) / 2)
    return own, (x.norm(dim=-1).square() - 2 * product).clamp(min=0).sum(-1) / max(1, x.shape[1])


def _first(x: Tensor, k: int, noise: torch.Generator) -> Tensor:
    """Centres drawn among the vectors, far from each other."""
    n_sets, n, dim = x.shape
    centres = x.new_empty(n_sets, k, dim)
    centres[:, 0] = x[:, 0]
    distance = x.new_full((n_sets, n), math.inf)
    approach = closest.approaching(x)
    for i in range(1, k):
        distance = approach(distance, centres[:, i - 1])
        # Where every vector is a centre already, any of them will do.
        chance = torch.where(distance.sum(-1, keepdim=True) > 0, distance, 1.0).double().cumsum(-1)
        drawn = torch.rand(n_sets, 1, generator=noise, device=x.device) * chance[:, -1:]
        chosen = torch.searchsorted(chance, drawn, right=True).clamp(max=n - 1)
        centres[:, i] = x.gather(1, chosen[..., None].expand(-1, -1, dim))[:, 0]
    return centres


def _moved(x: Tensor, own: Tensor, centres: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
    """Centres at the means of their vectors, of which `met` [P, k] each came before; how many each has
    now.
    """
    n_sets, k, dim = centres.shape
    place = (own + k * torch.arange(n_sets, device=x.device)[:, None]).flatten()
    sums = x.new_zeros(n_sets * k, dim).index_add_(0, place, x.flatten(0, 1)).view(n_sets, k, dim)
    total = met + torch.bincount(place, minlength=n_sets * k).view(n_sets, k)
    moved = (centres * met[..., None] + sums) / total.clamp(min=1)[..., None]
    return _refilled(x, own, moved, total == 0), total


def _refilled(x: Tensor, own: Tensor, centres: Tensor, is_empty: Tensor) -> Tensor:
    """The same, but those without vectors at the vectors that lie farthest from theirs."""
    most = min(int(is_empty.sum(-1).max()), x.shape[1])
    if most == 0:
        return centres
    dim = x.shape[-1]
    distance = (x - centres.gather(1, own[..., None].expand(-1, -1, dim))).square().sum(-1)
    far = distance.topk(most, -1).indices
    rank = (is_empty.cumsum(-1) - 1).clamp(0, most - 1)
    there = x.gather(1, far.gather(1, rank)[..., None].expand(-1, -1, dim))
    return torch.where(is_empty[..., None], there, centres)
