"""Heads that keep everything beside heads that keep only what is protected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from keyvalise.ops import profile
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Env, Scores
from keyvalise.types.part import View


class Knob(NamedTuple):
    """n_full: heads of all layers that keep everything;  share: of the full cache that is held with them."""

    n_full: int
    share: float


@dataclass(frozen=True, slots=True)
class LayoutAllocate:
    """The heads of the highest gates keep every token, all others the sinks and the newest.

    Shapes     profile "heads" [L, Hq | H]; protect bool [B, H, T], lengths int [B, H], budget int64 [B] →
               int64 [B, H]
    Formula    c protected, N tokens: F = ⌊(L·budget − L·H·c) / (N − c)⌋, at most full·L·H; count = N for the
               F highest gates, c for the others. Of equal gates a head goes first that has fewer heads of its
               layer before it, then the lower layer: ties are dealt out over the layers
    Units      budget: an upper bound, in tokens of all kv heads of one layer at a uniform split
    Cost       L·H·log(L·H) time; no state
    Needs      a profile of heads; of query heads the group's maximum counts
    Phase      with a rhythm in decode the others stay at c while the F heads grow
    Scope      layer: the layout depends on the profile, the row's tokens and the budget, no layer waits
    Reduces to full where the budget holds everything; to streaming where it holds no head more than c
    Raises     AssetError where the profile is missing or another model's
    Differs    the budget decides how many heads are full, not a quantile of the gates; ties are settled,
               where the official choice is random; a head that once dropped never becomes full again; what is
               too little for one more full head goes unused. full=… is the published share of full heads, for
               a budget that does not bind, such as @ 99%.
    Paper      Xiao et al. 2024, arXiv 2410.10819; Du et al. 2025, arXiv 2510.08525; Tang et al. 2024, arXiv
               2407.15891                                   Confidence  official code
    """

    profile: str = asset("heads", doc="gates of all heads", kind="heads")
    full: float = arg(1.0, low=0.0, high=1.0, doc="largest share of the heads that keep everything")

    name: ClassVar[str] = "layout"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "layout"
    is_uniform: ClassVar[bool] = False

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, tokens = lengths.shape[1], profile.reach(env, lengths)
        layers, place = env.among
        gates = profile.per_kv_head(env.fixed[self.profile]["heads"][layers], n_heads, "max")
        gates = gates.to(lengths.device)
        few = protect.sum(-1).clamp(min=1)
        # Layers without a full head may see fewer protected entries than others; it changes nothing there.
        full = n_full(gates.numel(), len(gates) * budget, few.amax(-1), tokens, self.full)
        is_whole = lengths == profile.seen(env, lengths)[:, None]
        keeps = (places(gates)[place] < full[:, None]) & is_whole
        counts = torch.where(keeps, lengths.long(), torch.minimum(few, lengths.long()))
        return profile.unless_it_fits(counts, env, lengths, budget)

    def came_to(self, view: View) -> str:
        env, entries, _ = view
        held, seen = entries.lengths[0].tolist(), int(profile.seen(env, entries.lengths)[0])
        others = [n for n in held if n < seen]
        said = f"{len(held) - len(others)} of {len(held)} heads keep all of {seen:,} tokens"
        return said + (f", the others {max(others):,}" if others else "")


def n_full(n_heads: int, budget: Tensor, few: Tensor, tokens: Tensor, most: float = 1.0) -> Tensor:
    """How many of n_heads may keep all their tokens while the others keep few: all int64 [B]."""
    fitting = (budget - n_heads * few).clamp(min=0) // (tokens - few).clamp(min=1)
    return fitting.clamp(max=int(n_heads * most + 1e-9))


def places(gates: Tensor) -> Tensor:
    """The place of every head among all, the highest gate first: [L, H] → int64 [L, H]."""
    within = gates.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    dealt = within.flatten().argsort(stable=True)
    order = dealt[gates.flatten()[dealt].argsort(descending=True, stable=True)]
    return order.argsort().view_as(gates)


def knob(n_heads: int, share: float, few: int, tokens: int, most: float = 1.0) -> Knob:
    """What a budget of a share of `tokens` comes to, where `few` of them are protected in every head."""
    budget = int(share * n_heads * tokens + 1e-6)
    if budget >= n_heads * tokens:
        return Knob(n_heads, 1.0)
    few = max(min(few, budget // n_heads), 1)
    numbers = torch.tensor([budget, few, tokens])
    full = int(n_full(n_heads, numbers[0], numbers[1], numbers[2], most))
    return Knob(full, (full * tokens + (n_heads - full) * few) / (n_heads * tokens))
