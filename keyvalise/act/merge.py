"""Losers live on in the keepers that are nearest to them, or most like them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.ops import mass, merging, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount


@dataclass(frozen=True, slots=True)
class MergeAct:
    """Every loser is averaged into one keeper, whose log-weight may say how much it now stands for.

    Shapes     keys [B, H, T, D], values [B, H, T, Dv] of keepers in the stored dtype; add_logw float32
               [B, H, T]
    Formula    nearest: t joins the keeper with the closest ordinal (the later of two), so that keepers hold
               contiguous runs; k' and v' are means over the run, an entry of log-weight log m counts m times
               similar: t joins the keeper c of largest max(cos(k_t, k_c), 0)·max(cos(v_t, v_c), 0), and
               vanishes where that is at most `zero`; v' is the mean weighted with the scores; keys=mean turns
               k_c into the direction of the weighted mean of unit keys, at its own length
               weight=count adds log(Σ m/m_c), mass adds log(1 + Σ s_t/s_c), none leaves the mass of the
               losers out of the softmax
    Units      sinks, recent: tokens per kv head, or a share of the count; they stay, and take losers in
    Cost       nearest T·log T, similar K·L·(D + Dv) time per head for K keepers and L losers, 64 MiB; 4 bytes
               of log-weight per entry and kv head unless weight=none
    Scope      per kv head; a keeper that takes nothing in stays as it is, bit for bit
    Reduces to drop for similar with zero ≥ 1; to attention over everything, for count and nearest, where the
               entries of a run are equal
    Differs    scores that weigh are cut off below at 10⁻⁶ of the head's largest, and are 1 where none is
               positive; logits weigh by their softmax. Scores of attention know of log-weights already, so
               that similar does not count these again. Entries of score −inf are dropped. Keepers in code
               keep their content. The published position merge has no log-weight. Of the similarity merge no
               text was at hand; its products of cosines are clamped at zero, for two negative ones are no
               likeness
    Paper      Liu et al. 2024, arXiv 2407.18121 (nearest); Li et al. 2024, arXiv 2412.08521 (similar)
    Confidence official code (nearest), reconstruction (similar)
    """

    into: Literal["nearest", "similar"] = arg("nearest", choices=("nearest", "similar"))
    weight: Literal["none", "count", "mass"] = arg(
        "none", choices=("none", "count", "mass"), doc="what the log-weight of a keeper grows by"
    )
    keys: Literal["mean", "keep"] = arg("mean", choices=("mean", "keep"), doc="what becomes of its key")
    zero: float = arg(0.6, low=-1.0, high=2.0, doc="likeness up to which a loser vanishes (similar)")
    sinks: Amount = arg(0, low=0, doc="first tokens that always stay", is_window=True)
    recent: Amount = arg(0, low=0, doc="last tokens that always stay", is_window=True)

    name: ClassVar[str] = "merge"
    room: ClassVar[str] = "act"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values"})
    takes: ClassVar[frozenset[str]] = frozenset()
    changes_keepers: ClassVar[bool] = True

    @property
    def gives(self) -> frozenset[str]:
        return frozenset() if self.weight == "none" else frozenset({"logw"})

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]:
        is_loser = entries.live & ~choice.keep & ~torch.isneginf(scores.values)
        keepers, losers = merging.Places.of(choice.keep & entries.live), merging.Places.of(is_loser)
        keys, values = mass.clean_keys(entries), weigh.clean_values(entries)
        counts, masses = merging.counts(entries), merging.masses(scores, entries.live)
        is_near = self.into == "nearest"
        if is_near:
            goal, shares = merging.nearest(entries.ordinals, keepers, losers), counts
        else:
            goal, shares = merging.most_similar(keys, values, keepers, losers, self.zero), masses
        has_taken = merging.poured(torch.ones_like(counts), losers, goal) > 1
        new = _where(has_taken, merging.pooled(values, shares, losers, goal), entries.values())
        choice = replace(choice, values=new)
        if self.keys == "mean":
            mean = merging.pooled(keys if is_near else _unit(keys), shares, losers, goal)
            mean = mean if is_near else _unit(mean) * keys.norm(dim=-1, keepdim=True)
            choice = replace(choice, keys=_where(has_taken, mean, entries.keys()))
        if self.weight != "none":
            by = counts if self.weight == "count" else masses
            grown = (merging.poured(by, losers, goal) / by).log()
            add = torch.where(choice.keep & has_taken, grown, 0.0)
            choice = replace(choice, add_logw=add if choice.add_logw is None else choice.add_logw + add)
        return choice, own

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        return 0


def _unit(x: Tensor) -> Tensor:
    return functional.normalize(x, dim=-1)


def _where(mask: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(mask[..., None], new.to(old.dtype), old)
