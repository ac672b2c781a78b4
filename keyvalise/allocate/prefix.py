"""Counts by the share of its entries that every layer was measured to spare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import profile, rounding
from keyvalise.types.argument import asset
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class PrefixAllocate:
    """Layers drop in proportion to the shares of a profile, under which all once retained equal attention.

    Shapes     profile "layers" [L], shares that are dropped; protect bool [B, H, T], lengths int [B, H],
               budget int64 [B] → int64 [B, H]
    Formula    per head, b = budget // H, W protected, N tokens:  drop_l = λ·d_l, at most N − W, with the λ
               that makes Σ drop_l = L·(N − b); whole by largest remainder;  count_l = N − drop_l
    Units      budget: tokens of all kv heads of one layer at a uniform split, protected ones included
    Cost       L² time; no state.  `ops.water.counts` measures a profile: the split of one prompt whose
               worst-off layer retains most
    Needs      a profile of layers: shares of the tokens that are dropped, at any mean share
    Scope      layer: counts depend on the profile, the row's tokens and the budget, no layer waits
    Reduces to uniform for equal shares
    Raises     AssetError where the profile is missing or another model's
    Differs    the profile is scaled to the budget, where the paper has one file per budget; sums are exact.
               For a prompt that searches its own level write `water`, which waits for all layers
    Paper      Wang et al. 2024, arXiv 2412.03409           Confidence  official code
    """

    profile: str = asset("prefix", doc="share that every layer drops", kind="dropped")

    name: ClassVar[str] = "prefix"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = True

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, held = lengths.shape[1], protect.sum(-1)
        layers, place = env.among
        dropped = env.fixed[self.profile]["layers"][layers].to(lengths.device)
        tokens = profile.reach(env, lengths)
        spare = (tokens - budget // n_heads).clamp(min=0)
        caps = (tokens - held.amax(-1)).clamp(min=0)[:, None].expand(-1, len(dropped))
        drops = rounding.share_out(dropped.expand(caps.shape), len(dropped) * spare, caps)
        own = n_heads * (tokens - drops[:, place]) + budget % n_heads
        counts = rounding.share_out(torch.ones_like(lengths), own, lengths, held)
        return profile.unless_it_fits(counts, env, lengths, budget)
