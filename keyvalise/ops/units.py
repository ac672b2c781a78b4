"""Entries taken together in units: how many there are, their means and bounds, and which of them to read.

Axes   entries [B, H, T], `unit` int64 [B, H, T] says whose each is; U units per head
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from keyvalise.ops.fast import choose, choosing, legible, scan
from keyvalise.types.data import Entries
from keyvalise.types.quantity import Amount, Share


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


def spreads(x: Tensor, weight: Tensor, unit: Tensor, centres: Tensor) -> Tensor:
    """float32 [B, H, U]: the root of Σ w·‖x − centre‖² / (D·Σ w) over the entries of every unit."""
    alive = weight > 0
    place = torch.where(alive, unit, 0)
    own = centres.gather(2, place[..., None].expand(*place.shape, centres.shape[-1]))
    far = torch.where(alive, (torch.where(alive[..., None], x.float(), 0.0) - own).square().mean(-1), 0.0)
    return means(far[..., None], weight, unit, centres.shape[2])[..., 0].sqrt()


def logits(q: Tensor, centres: Tensor) -> Tensor:
    """q·c: float32 [B, Hq, U] for q [B, Hq, D] and centres [B, H, U, D], head h asking those of h // G."""
    n_rows, n_query, dim = q.shape
    n, group = centres.shape[0] * centres.shape[1] * centres.shape[2], n_query // centres.shape[1]
    is_faster = choose.is_faster("scan", centres.dtype, n, per_head=group, key_dim=dim)
    if is_faster and scan.available(q, centres):
        return scan.logits(q, centres)
    grouped = q.float().view(n_rows, centres.shape[1], -1, dim)
    return torch.matmul(grouped, centres.float().mT).reshape(n_rows, n_query, -1)


def reaching(q: Tensor, centres: Tensor, reach: Tensor) -> Tensor:
    """q·c + ‖q‖·r: float32 [B, Hq, U], what a key reaches that lies r [B, H, U] from the centre towards the
    query.
    """
    further: Tensor = q.float().norm(dim=-1)[..., None] * of_heads(reach.float(), q.shape[1])
    return logits(q, centres) + further


def compared(q: Tensor, centres: Tensor, measure: str) -> Tensor:
    """q·c, or ‖q‖·cos(q, c) where the measure is "cosine": float32 [B, Hq, U]."""
    if measure == "cosine":
        centres = torch.nn.functional.normalize(centres.float(), dim=-1)
    return logits(q, centres)


def of_heads(x: Tensor, n: int) -> Tensor:
    """[B, H, …] as [B, n, …]: every kv head's for its query heads; the largest over the heads for n = 1."""
    if x.shape[1] == n:
        return x
    return x.amax(1, keepdim=True) if n == 1 else x.repeat_interleave(n // x.shape[1], 1)


def of_tables(chosen: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """Units of tables side by side, [B, A, m], by table: numbered within it, −1 where a unit is another's."""
    if len(counts) == 1:
        return [chosen]
    found, first = [], 0
    for n in counts:
        found.append(torch.where((chosen >= first) & (chosen < first + n), chosen - first, -1))
        first += n
    return found


def owned(chosen: Tensor, sizes: Tensor) -> Tensor:
    """Chosen units [B, A, m] for each of max(A, H) lists, −1 where a head that chose none lacks that unit.

    sizes   int [B, H, U]: entries of every unit
    """
    if chosen.shape[1] >= sizes.shape[1]:
        return chosen
    wide = chosen.expand(-1, sizes.shape[1], -1)
    return torch.where(sizes.gather(-1, wide.clamp(min=0)) > 0, wide, -1)


def amounts(amount: Amount, sizes: Tensor) -> Tensor:
    """int64 [B, A]: an amount of entries for every choice, or its share of those in all units, `sizes` [B, A,
    U].
    """
    if isinstance(amount, Share):
        return (sizes.sum(-1).double() * amount.percent / 100 + 1e-9).long()
    return torch.full(sizes.shape[:2], amount, dtype=torch.long, device=sizes.device)


def listed(chosen: Tensor, n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Chosen units [B, A, m], −1 where there is none, list by list: whose list of B·max(A, H) it is, whose
    (row, kv head) it belongs to, and the unit, int64 [M] each.
    """
    n_lists = max(chosen.shape[1], n_heads)
    wide = chosen.expand(-1, n_lists, -1).flatten(0, 1)
    lists, slot = (wide >= 0).nonzero(as_tuple=True)
    home = lists if n_heads == n_lists else lists * n_heads // n_lists
    return lists, home, wide[lists, slot]


def votes(logits: Tensor, sizes: Tensor) -> Tensor:
    """Σ_g softmax over the units that hold entries: float32 [B, H, U], 0 where there is none.

    Shapes   logits float32 [B, Hq, U], anything where there is no unit; sizes int [B, H, U]
    """
    if _is_fast(logits):
        return choosing.votes(logits, sizes)
    is_empty, grouped = (sizes == 0)[:, :, None], logits.unflatten(1, (sizes.shape[1], -1))
    # Where a head has no unit at all, a softmax has no number either.
    shares: Tensor = grouped.masked_fill(is_empty, -torch.inf).softmax(-1).nan_to_num(0.0).sum(2)
    return shares


def _is_fast(x: Tensor) -> bool:
    return x.is_cpu and legible.is_installed() and choose.is_faster("choosing", x.dtype, x.numel())


def within(ranking: Tensor, sizes: Tensor, *amounts: Tensor) -> list[Tensor]:
    """The best units until the first amount of entries is met, then the next ones until the second is, …

    The first amount is met by one unit at least; no unit is cut. Equal ranks go to the earlier unit.

    Shapes   ranking float32 [B, A, U], −inf where there is no unit; sizes int [B, A, U]; amounts int64 [B, A]
             → per amount int64 [B, A, n], ascending, −1 behind
    """
    if _is_fast(ranking):
        return choosing.within(ranking, sizes, amounts)
    ranking = ranking.masked_fill(sizes == 0, -torch.inf)
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
        found.append(_ascending(order, mine))
    return found


def _ascending(units: Tensor, mine: Tensor) -> Tensor:
    """Those that are mine of every list, ascending, with −1 behind; as wide as the longest list."""
    most = int(mine.sum(-1).max()) if mine.numel() else 0
    none = torch.iinfo(units.dtype).max
    ordered = torch.where(mine, units, none).sort(-1).values[..., :most]
    return torch.where(ordered == none, -1, ordered)
