"""How many entries every layer keeps when all are to retain the same share of their attention."""

from __future__ import annotations

import torch
from torch import Tensor


def counts(mass: Tensor, total: int, guard: Tensor | None = None, live: Tensor | None = None) -> Tensor:
    """The split of `total` entries over the layers whose worst-off layer retains as much as any split allows.

    Shapes   mass float [L, N] ≥ 0, guard bool [N] or [L, N] (kept, inside the total), live bool [L, N]
             (None: all) → int64 [L]
    Formula  p_l(m) = share of layer l's mass in its guarded and m best other entries; the entry that lifts
             layer l from p_l(m − 1) is worth taking before all that lift a layer from more: the
             total − Σ guard lowest p_l(m − 1) are taken, of equals the lower m, then the lower layer
    Cost     L·N·log(L·N) time
    """
    live = torch.ones_like(mass, dtype=torch.bool) if live is None else live
    guard = torch.zeros_like(live) if guard is None else guard.expand_as(live) & live
    shares = torch.where(live, mass.double(), 0.0)
    shares = shares / shares.sum(-1, keepdim=True).clamp(min=1e-300)
    ranked = torch.where(live & ~guard, shares, -1.0).sort(dim=-1, descending=True).values
    free, ranked = ranked >= 0, ranked.clamp(min=0)
    before = torch.where(guard, shares, 0.0).sum(-1, keepdim=True) + ranked.cumsum(-1) - ranked
    before = torch.where(free, before.cummax(-1).values, torch.inf)
    # Rank by rank, so that a stable sort deals equals out one to each layer.
    order = before.T.flatten().sort(stable=True).indices
    n_free = min(max(total - int(guard.sum()), 0), int(free.sum()))
    taken = torch.bincount(order[:n_free] % mass.shape[0], minlength=mass.shape[0])
    return taken + guard.sum(-1)


def retained(mass: Tensor, kept: Tensor, guard: Tensor | None = None) -> Tensor:
    """The share of every layer's mass in its guarded entries and its best others, kept[l] together.

    Shapes   mass float [L, N] ≥ 0, kept int [L], guard bool [N] → float64 [L]
    """
    first = mass.double() if guard is None else mass.double().masked_fill(guard, torch.inf)
    order = first.sort(dim=-1, descending=True, stable=True).indices
    is_in = torch.arange(mass.shape[-1]) < kept[:, None]
    best = mass.double().gather(-1, order)
    return torch.where(is_in, best, 0.0).sum(-1) / mass.double().sum(-1).clamp(min=1e-300)
