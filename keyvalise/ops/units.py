"""Entries taken together in units: how many there are, their means and bounds, and which of them to read.

Axes   entries [B, H, T], `unit` int64 [B, H, T] says whose each is; U units per head
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.types.data import Entries


def weights(entries: Entries) -> Tensor:
    """float32 [B, H, T]: exp of the log-weights, 0 where none lives."""
    if entries.logw is None:
        return entries.live.float()
    return torch.where(entries.live, entries.logw, -torch.inf).exp()


def sizes(unit: Tensor, live: Tensor, n: int) -> Tensor:
    """int32 [B, H, n]: live entries of every unit."""
    count = torch.zeros((*unit.shape[:2], n), dtype=torch.int32, device=unit.device)
    return count.scatter_add_(-1, torch.where(live, unit, 0), live.int())


def means(x: Tensor, weight: Tensor, unit: Tensor, n: int) -> Tensor:
    """float32 [B, H, n, D]: Σ w·x / Σ w over the entries of every unit; 0 where they weigh nothing.

    weight   float32 [B, H, T], 0 where none lives
    """
    dim = x.shape[-1]
    clean = torch.where(weight[..., None] > 0, x.float(), 0.0) * weight[..., None]
    place = torch.where(weight > 0, unit, 0)
    total = clean.new_zeros((*unit.shape[:2], n, dim))
    total.scatter_add_(2, place[..., None].expand(*place.shape, dim), clean)
    return total / masses(weight, unit, n).clamp(min=torch.finfo(torch.float32).tiny)[..., None]


def masses(weight: Tensor, unit: Tensor, n: int) -> Tensor:
    """float32 [B, H, n]: Σ w over the entries of every unit."""
    mass = weight.new_zeros((*unit.shape[:2], n))
    return mass.scatter_add_(-1, torch.where(weight > 0, unit, 0), weight)


def extremes(x: Tensor, live: Tensor, unit: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest float32 [B, H, n, D] of every feature in every unit; 0 where nothing lives."""
    dim = x.shape[-1]
    place = torch.where(live, unit, 0)[..., None].expand(*unit.shape, dim)
    found = []
    for how, worst in (("amin", torch.inf), ("amax", -torch.inf)):
        own = torch.where(live[..., None], x.float(), worst)
        ends = own.new_full((*unit.shape[:2], n, dim), worst)
        ends.scatter_reduce_(2, place, own, how)
        found.append(torch.where(ends == worst, 0.0, ends))
    return found[0], found[1]


def radii(x: Tensor, live: Tensor, unit: Tensor, centres: Tensor) -> Tensor:
    """float32 [B, H, U]: how far the farthest entry lies from the centre [B, H, U, D] of its unit."""
    place = torch.where(live, unit, 0)
    own = centres.gather(2, place[..., None].expand(*place.shape, centres.shape[-1]))
    far = torch.where(live, (torch.where(live[..., None], x.float(), 0.0) - own).norm(dim=-1), 0.0)
    return far.new_zeros(centres.shape[:3]).scatter_reduce_(-1, place, far, "amax")


def logits(q: Tensor, centres: Tensor) -> Tensor:
    """q·c: float32 [B, Hq, U] for q [B, Hq, D] and centres [B, H, U, D], head h asking those of h // G."""
    n_rows, n_query, dim = q.shape
    grouped = q.float().view(n_rows, centres.shape[1], -1, dim)
    return torch.matmul(grouped, centres.float().mT).reshape(n_rows, n_query, -1)


def of_heads(x: Tensor, n: int) -> Tensor:
    """[B, H, …] as [B, n, …]: every kv head's for its query heads; the largest over the heads for n = 1."""
    if x.shape[1] == n:
        return x
    return x.amax(1, keepdim=True) if n == 1 else x.repeat_interleave(n // x.shape[1], 1)


def picked(x: Tensor, chosen: Tensor) -> Tensor:
    """x [B, H, U, …] at units [B, A, m], −1 where there is none: [B, max(A, H), m, …]; anything for none."""
    n_rows, n_heads = x.shape[:2]
    n_lists = max(chosen.shape[1], n_heads)
    row = torch.arange(n_rows, device=x.device)[:, None, None]
    head = (torch.arange(n_lists, device=x.device) * n_heads // n_lists)[:, None]
    found: Tensor = x[row, head, chosen.clamp(min=0)]
    return found


def within(ranking: Tensor, sizes: Tensor, *amounts: Tensor) -> list[Tensor]:
    """The best units until the first amount of entries is met, then the next ones until the second is, …

    The first amount is met by one unit at least; no unit is cut. Equal ranks go to the earlier unit.

    Shapes   ranking float32 [B, A, U], −inf where there is no unit; sizes int [B, A, U]; amounts int64 [B, A]
             → per amount int64 [B, A, n], best first, −1 where there is none
    """
    order = ranking.sort(dim=-1, descending=True, stable=True).indices
    sizes = torch.where(torch.isneginf(ranking), 0, sizes).gather(-1, order)
    ends, edge = sizes.cumsum(-1), torch.zeros_like(amounts[0])
    found, taken = [], torch.zeros_like(ends, dtype=torch.bool)
    for i, amount in enumerate(amounts):
        edge = edge + amount
        mine = (ends <= edge[..., None]) & (sizes > 0) & ~taken
        if i == 0:
            mine[..., :1] |= sizes[..., :1] > 0
        taken = taken | mine
        found.append(_first(torch.where(mine, order, -1), mine))
    return found


def _first(units: Tensor, mine: Tensor) -> Tensor:
    """Without the columns in which nobody has a unit, those that have one in front."""
    begin, end = 0, 0
    columns = mine.flatten(0, 1).any(0).nonzero()
    if len(columns):
        begin, end = int(columns[0]), int(columns[-1]) + 1
    # A view would hold on to all others.
    return units[..., begin:end].clone(memory_format=torch.contiguous_format)
