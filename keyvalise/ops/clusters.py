"""k-means by direction or by distance, for many sets of vectors at once; no draws, so that equal sets are cut
alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from keyvalise.ops import closest

Measure = Literal["direction", "distance"]


def of_heads(keys: Tensor, lengths: Tensor, per_cluster: int, *, segment: int = 8192, **how: Any) -> Tensor:
    """int64 [B, H, T]: the cluster of each of a head's first `lengths` [B, H] keys, 0 behind them.

    Heads are cut in stretches of about `segment` keys, each into clusters of `per_cluster` on average.

    how   see `cut`
    """
    found = torch.zeros(keys.shape[:3], dtype=torch.long, device=keys.device)
    for n in torch.unique(lengths[lengths > 0]).tolist():
        row, head = (lengths == n).nonzero(as_tuple=True)
        found[row, head, :n] = _stretches(keys[row, head, :n], per_cluster, segment, how)
    return found


def _stretches(keys: Tensor, per_cluster: int, segment: int, how: Mapping[str, Any]) -> Tensor:
    n = keys.shape[1]
    n_stretches = max(1, round(n / segment))
    found, first = [], 0
    for begin, end in itertools.pairwise(n * i // n_stretches for i in range(n_stretches + 1)):
        n_clusters = -(-(end - begin) // per_cluster)
        found.append(cut(keys[:, begin:end], n_clusters, **how) + first)
        first += n_clusters
    return torch.cat(found, 1)


def cut(x: Tensor, n: int, *, passes: int = 10, measure: Measure = "direction") -> Tensor:
    """int64 [P, T]: the cluster, of n, of every vector; x is taken relative to its mean.

    Begins with vectors at even distances; every pass gives each vector to the centre with the largest inner
    product and moves the centres to the directions of their means, the last pass to the means themselves. By
    distance, each vector goes to the nearest centre, and centres are the means throughout. A centre that
    nobody chose stays where it was.

    Shapes   x [P, T, D], T ≥ n
    Cost     passes·P·T·n·D time
    """
    x = x.float()
    x = x - x.mean(1, keepdim=True)
    first = torch.arange(n, device=x.device) * x.shape[1] // n
    is_near = measure == "distance"
    centres = x[:, first] if is_near else _directions(x[:, first])
    own = nearest(x, centres, measure)
    for i in range(1, passes):
        moved, sizes = _means(x, own, n)
        moved = torch.where(sizes[..., None] > 0, moved, centres)
        centres = moved if is_near or i == passes - 1 else _directions(moved)
        own = nearest(x, centres, measure)
    return own


def nearest(x: Tensor, centres: Tensor, measure: Measure = "direction") -> Tensor:
    """int64 [P, T]: the centre [P, n, D] with the largest inner product, or the least distance; of equal ones
    the first.
    """
    less = centres.square().sum(-1) / 2 if measure == "distance" else None
    return closest.best(x, centres, less)[0]


def _means(x: Tensor, own: Tensor, n: int) -> tuple[Tensor, Tensor]:
    sizes = x.new_zeros(x.shape[0], n).scatter_add_(-1, own, torch.ones_like(own, dtype=x.dtype))
    total = x.new_zeros(x.shape[0], n, x.shape[-1])
    total.scatter_add_(1, own[..., None].expand_as(x), x)
    return total / sizes.clamp(min=1)[..., None], sizes


def _directions(centres: Tensor) -> Tensor:
    return torch.nn.functional.normalize(centres, dim=-1)
