"""Counts by what a head is doing on this text: dormant heads look at the first token, and keep little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import rounding
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class ActivityAllocate:
    """Above a floor, heads share a layer's budget in proportion to the attention they pay beyond the sinks.

    Shapes     scores [B, H | 1, T] ≥ 0, protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64
               [B, H]
    Formula    a_h = Σ of s_ht over the live entries behind the protected first ones, of which there is at
               least one; floor_h = uniform share of ⌊floor·budget⌋, not below protected_h;  count_h =
               floor_h + (budget − Σ floor)·a_h / Σ a, clipped to length_h; whole by largest remainder
    Units      budget: tokens of all kv heads together, protected ones included
    Cost       H·T + H² time
    Needs      votes of a window, best weighed by the length of their values and reduced over the group by
               their maximum: window(32) > value_norm > max > activity; reads the scores, so it waits for them
    Phase      prompt and decode; a head that was dormant cannot get back what it dropped
    Scope      layer
    Reduces to uniform for floor = 1, and for equally active heads
    Differs    the paper measures dormant heads and compresses nothing; what is done here with its signal is
               our own. The maximum over the group is taken entry by entry, before the sum
    Paper      Guo et al. 2024, arXiv 2410.13835            Confidence  reconstruction
    """

    floor: float = arg(0.2, low=0.0, high=1.0, doc="share of the uniform count that every head is sure of")

    name: ClassVar[str] = "activity"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = False

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        slots = torch.arange(protect.shape[-1], device=protect.device)
        live = slots < lengths[..., None]
        is_sink = (protect & live).int().cummin(-1).values.bool() | (slots == 0)
        active = torch.where(live & ~is_sink, scores.values, 0.0).clamp(min=0).sum(-1)
        held, total = (protect & live).sum(-1), torch.minimum(budget, lengths.sum(-1))
        sure = torch.maximum((budget.double() * self.floor + 1e-9).long(), held.sum(-1))
        floors = rounding.share_out(torch.ones_like(active), torch.minimum(sure, total), lengths, held)
        return floors + rounding.share_out(active, total - floors.sum(-1), lengths - floors)
