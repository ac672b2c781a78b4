"""How many entries every layer keeps when all are to retain the same share of their attention."""

from __future__ import annotations

import torch
from torch import Tensor


def counts(mass: Tensor, total: int, guard: Tensor | None = None) -> Tensor:
    """The split of `total` entries over the layers whose worst-off layer retains as much as any split allows.

    Shapes   mass float [L, N] ≥ 0, guard bool [N] (kept in every layer, inside the total) → int64 [L]
    Formula  p_l(m) = share of layer l's mass in its guarded and m best other entries; the entry that lifts
             layer l from p_l(m − 1) is worth taking before all that lift a layer from more: the
             total − L·Σ guard lowest p_l(m − 1) are taken, of equals the lower m, then the lower layer
    Cost     L·N·log(L·N) time
    """
    guard = torch.zeros(mass.shape[-1], dtype=torch.bool) if guard is None else guard
    shares = mass.double() / mass.double().sum(-1, keepdim=True).clamp(min=1e-300)
    ranked = shares[:, ~guard].sort(dim=-1, descending=True).values
    before = shares[:, guard].sum(-1, keepdim=True) + ranked.cumsum(-1) - ranked
    # Rank by rank, so that a stable sort deals equals out one to each layer.
    order = before.cummax(-1).values.T.flatten().sort(stable=True).indices
    n_free = max(total - mass.shape[0] * int(guard.sum()), 0)
    taken = torch.bincount(order[:n_free] % mass.shape[0], minlength=mass.shape[0])
    return taken + int(guard.sum())


def retained(mass: Tensor, kept: Tensor, guard: Tensor | None = None) -> Tensor:
    """The share of every layer's mass in its guarded entries and its best others, kept[l] together.

    Shapes   mass float [L, N] ≥ 0, kept int [L], guard bool [N] → float64 [L]
    """
    first = mass.double() if guard is None else mass.double().masked_fill(guard, torch.inf)
    order = first.sort(dim=-1, descending=True, stable=True).indices
    is_in = torch.arange(mass.shape[-1]) < kept[:, None]
    best = mass.double().gather(-1, order)
    return torch.where(is_in, best, 0.0).sum(-1) / mass.double().sum(-1).clamp(min=1e-300)
