"""Counts in proportion to the error that dropping was measured to make in every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import profile, rounding
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Env, Scores

STEPS = tuple(2**i for i in range(24, -1, -1))
"""Of the search for a whole number below any count."""


@dataclass(frozen=True, slots=True)
class LayersAllocate:
    """A least count for every layer, the rest to the layers that err most when they drop; equal in a layer.

    Shapes     profile "layers" [L]; protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64
               [B, H]
    Formula    per head, b = budget // H, T = L·b, e = errors / Σ:  b_l = clip(least + round(e_l·(T −
               L·least)), least, most·b), then one more, or one less, for every layer within its bounds until
               the sum is T; the last round serves the layers of the largest errors
    Units      least: tokens per kv head, protected ones included;  most: times the mean count
    Cost       25·L time; no state
    Needs      a profile of layers: shares of error
    Scope      layer: counts depend on the profile, the row's tokens and the budget, no layer waits
    Reduces to uniform for equal errors, for most = 1, and for a budget of `least` or below
    Raises     AssetError where the profile is missing or another model's
    Differs    the rounds are solved at once, and end where all layers are at their bounds; a layer is bounded
               by the row's tokens as well, and what it cannot use goes to the others. A budget below `least`
               lowers it, protected entries raise it.
    Paper      Lin et al. 2025, arXiv 2508.02401            Confidence  official code
    """

    profile: str = asset("eviction_error", doc="error of every layer under a small cache", kind="layers")
    least: int = arg(32, low=0, doc="tokens that every layer is sure of")
    most: float = arg(3.0, low=1.0, doc="largest count over the mean count")

    name: ClassVar[str] = "layers"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = True

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, held = lengths.shape[1], protect.sum(-1)
        layers, place = env.among
        errors = env.fixed[self.profile]["layers"][layers].to(lengths.device)
        tokens = profile.reach(env, lengths)
        table = self.table(errors, budget // n_heads, held.amax(-1), tokens)
        own = n_heads * table[:, place] + budget % n_heads
        counts = rounding.share_out(torch.ones_like(lengths), own, lengths, held)
        return profile.unless_it_fits(counts, env, lengths, budget)

    def table(self, errors: Tensor, mean: Tensor, window: Tensor, tokens: Tensor) -> Tensor:
        """Entries per head and layer: errors [L], mean count, protected, tokens int64 [B] → int64 [B, L]."""
        shares, order = errors.double().clamp(min=0).sort(descending=True, stable=True)
        shares = shares / shares.sum().clamp(min=1e-300)
        least = torch.minimum(window.clamp(min=self.least), mean)[:, None]
        most = torch.minimum((self.most * mean.double() + 1e-9).long(), torch.maximum(tokens, mean))[:, None]
        total = len(errors) * mean[:, None]
        first = least + (shares * (total - len(errors) * least)).round().long()
        lift = torch.full_like(total, -2 * STEPS[0])
        for step in (2 * STEPS[0], *STEPS):
            lower = torch.clamp(first + lift + step, least, most).sum(-1, keepdim=True) <= total
            lift = torch.where(lower, lift + step, lift)
        counts, next_ = (torch.clamp(first + x, least, most) for x in (lift, lift + 1))
        is_open = next_ > counts
        spare = total - counts.sum(-1, keepdim=True)
        counts = counts + (is_open & (is_open.cumsum(-1) <= spare))
        return torch.empty_like(counts).scatter_(-1, order.expand_as(counts), counts)
