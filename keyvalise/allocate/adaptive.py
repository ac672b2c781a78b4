"""Counts by competition between the heads of a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import rounding
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class AdaptiveAllocate:
    """The best entries of all heads together decide how many each head keeps, above a floor per head.

    Shapes     scores [B, H | 1, T], protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64 [B,
               H]
    Formula    floor_h = uniform share of ⌊floor·budget⌋, not below protected_h; the other budget − Σ floor_h
               tokens go to the highest scores not yet covered; count_h = floor_h + how many of them are head
               h's
    Units      budget: tokens of all kv heads together, protected ones included
    Cost       H·T·log(H·T) time; two sorted copies of the scores
    Needs      scores on one scale over the heads, such as "mass"; reads the scores, so it waits for them
    Scope      layer
    Reduces to uniform for floor = 1 or one head; for floor = 0 the kept score is the largest possible
    Differs    the floor is guaranteed (each head's own best come first), not blended into the result, and
               counts protected entries; an entry of score −inf raises no count; equal scores go to the lower
               head. Where values or projections weighed the scores, heads compete by what they were before:
               so in CriticalKV's adaptive form, for attention is on one scale over the heads, lengths are not
    Paper      Feng et al. 2024, arXiv 2407.11550           Confidence  official code
    """

    floor: float = arg(0.2, low=0.0, high=1.0, doc="share of the uniform count that every head is sure of")

    name: ClassVar[str] = "adaptive"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = False

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        slots = torch.arange(protect.shape[-1], device=protect.device)
        live = slots < lengths[..., None]
        held = (protect & live).sum(-1)
        rivals = torch.where(live & ~protect, self._compared(scores), -math.inf)
        caps = held + (rivals > -math.inf).sum(-1)
        total = torch.minimum(budget, caps.sum(-1))
        sure = torch.maximum((budget.double() * self.floor + 1e-9).long(), held.sum(-1))
        floors = rounding.share_out(torch.ones_like(caps), torch.minimum(sure, total), caps, held)
        best = rivals.sort(-1, descending=True).values
        best = best.masked_fill(slots < (floors - held)[..., None], -math.inf)
        order = best.flatten(1).sort(dim=-1, descending=True, stable=True).indices
        places = torch.arange(order.shape[-1], device=order.device)
        is_won = places < (total - floors.sum(-1))[:, None]
        return floors.scatter_add(1, order // max(1, slots.numel()), is_won.long())

    def _compared(self, scores: Scores) -> Tensor:
        return scores.values if scores.base is None else scores.base
