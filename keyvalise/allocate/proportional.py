"""Counts in proportion to a measured score of every head, over all layers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import profile, rounding
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class ProportionalAllocate:
    """Every head is sure of a floor; the rest of all layers' budgets goes to the heads as a profile scores
    them.

    Shapes     profile "heads" [L, Hq | H]; protect bool [B, H, T], lengths int [B, H], budget int64 [B] →
               int64 [B, H]
    Formula    per head, b = budget / H, W protected, b' = b − W, p = score^temperature / Σ over all heads:
               pool = ⌊b'/beta⌋,  count = W + (b' − pool) + p·pool·L·H, clipped to the row's tokens; whole by
               largest remainder, so that all heads of the L layers sum to L·budget
    Units      budget: tokens of all kv heads of one layer at a uniform split, protected ones included
    Cost       (L·H)² time and transient numbers per row at a decision; no state
    Needs      a profile: per query head, then the group's mean or maximum counts, or per kv head
    Scope      layer: counts depend on the profile, the row's tokens and the budget, no layer waits
    Reduces to uniform for beta > b', for equal scores, and for temperature = 0
    Raises     AssetError where the profile is missing or another model's
    Differs    sums are exact (the official rounding drifts by some ten tokens); what a head cannot use for
               want of tokens goes to the others in proportion; a head that scores zero shares the pool only
               when all others are full; capacities are of kv heads, where the official code expands keys to
               query heads.
    Paper      Fu et al. 2024, arXiv 2410.19258             Confidence  official code
    """

    profile: str = asset("heads", doc="scores of all heads", kind="heads")
    beta: float = arg(1.5, low=1.0, doc="the budget over the part of it that is shared out by score")
    temperature: float = arg(1.0, low=0.0, doc="power of the scores")
    reduce: Literal["mean", "max"] = arg("mean", choices=("mean", "max"), doc="query heads to kv heads")

    name: ClassVar[str] = "proportional"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = False

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, held = lengths.shape[1], protect.sum(-1)
        layers, place = env.among
        heads = profile.per_kv_head(env.fixed[self.profile]["heads"][layers], n_heads, self.reduce)
        window = torch.minimum(held.amax(-1), budget // n_heads)
        free = profile.reach(env, lengths) - window
        own = self.table(heads.to(lengths.device), budget - n_heads * window, free)[:, place]
        own = own + window[:, None]
        counts = rounding.share_out(own, own.sum(-1), lengths, held)
        return profile.unless_it_fits(counts, env, lengths, budget)

    def table(self, heads: Tensor, budget: Tensor, free: Tensor) -> Tensor:
        """Unprotected entries of every head: heads [L, H], budget of a layer and tokens free int64 [B] →
        int64 [B, L, H].
        """
        n_layers, n_heads = heads.shape
        mean = budget.double() / n_heads
        floor = (mean - (mean / self.beta + 1e-9).floor()).floor().long()
        floor = torch.minimum(floor, free.clamp(min=0))[:, None].expand(-1, heads.numel())
        pool = n_layers * budget - floor.sum(-1)
        rest = free.clamp(min=0)[:, None] - floor
        weights = (heads**self.temperature).flatten().expand_as(rest)
        return (floor + rounding.share_out(weights, pool, rest)).view(-1, n_layers, n_heads)
