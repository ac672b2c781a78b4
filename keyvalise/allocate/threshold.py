"""Every head keeps what scores high enough, however many entries that are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import profile, rounding
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class ThresholdAllocate:
    """Entries that score more than 1 − threshold stay; where the budget holds fewer, the threshold falls.

    Shapes     scores [B, H | 1, T], protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64
               [B, H]
    Formula    count_h = protected_h + |{t : s_ht > 1 − T}|, with the largest T ≤ threshold whose sum over the
               layer's heads is within the budget; entries of equal scores stay or go together. Where not even
               the best of them fit, they share the room evenly
    Units      budget: an upper bound, in tokens of all kv heads together, protected ones included
    Cost       H·T·log(H·T) time, one sorted copy of the scores; no search: T lies at a score
    Needs      scores on one scale over the heads, such as the share that is lost without an entry; reads the
               scores, so it waits for them
    Phase      at every decision for itself; steady scores give steady counts
    Scope      layer
    Reduces to full for threshold = 1 and scores above 0, where the budget does not bind; to adaptive(0) for a
               budget that binds and scores that are all different
    Differs    the paper has no budget, and says how large the cache became; for its threshold alone, write
               one that does not bind, such as @ 99%
    Paper      Ge et al. 2023, arXiv 2310.01801             Confidence  paper
    """

    threshold: float = arg(0.95, low=0.0, high=1.0, doc="share of attention that every head recovers")

    name: ClassVar[str] = "threshold"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "demanded"
    is_uniform: ClassVar[bool] = False

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        live = torch.arange(protect.shape[-1], device=protect.device) < lengths[..., None]
        held = (protect & live).sum(-1)
        rivals = torch.where(live & ~protect, scores.values, -math.inf)
        room = (budget - held.sum(-1)).clamp(min=0)
        bar = bars(rivals, room, self.threshold)[:, None, None]
        counts, equals = (rivals > bar).sum(-1), (rivals == bar).sum(-1)
        is_crowded = (counts.sum(-1) == 0) & (bar[:, 0, 0] > 1 - self.threshold)
        even = rounding.share_out(torch.ones_like(equals), room, equals)
        counts = held + torch.where(is_crowded[:, None], even, counts)
        return profile.unless_it_fits(counts, env, lengths, budget)


def bars(rivals: Tensor, room: Tensor, threshold: float) -> Tensor:
    """What entries must score more than, so that they fit: rivals [B, H, T], room int64 [B] → [B]."""
    ranked = rivals.flatten(1).sort(-1, descending=True).values
    first_out = ranked.gather(1, room.clamp(max=ranked.shape[1] - 1)[:, None])[:, 0]
    all_in = room >= ranked.shape[1]
    return torch.where(all_in, -math.inf, first_out).clamp(min=1 - threshold)


def knob(rivals: Tensor, room: Tensor, threshold: float = 1.0) -> Tensor:
    """The threshold [B] that a budget comes to: at most `threshold`, 0 where not even the best of all fit."""
    return (1 - bars(rivals, room, threshold)).clamp(min=0.0)
