"""Counts by how much a layer looks at what may be dropped: attentive layers keep more of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import profile
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Scores
from keyvalise.types.part import View


@dataclass(frozen=True, slots=True)
class AttentiveAllocate:
    """One of three rates for a layer, by the attention it pays to what may be dropped; alike for its heads.

    Shapes     scores [B, H | 1, T], protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64
               [B, H]
    Formula    S = unprotected entries of a head, gamma = mean_h Σ_{t ∈ S} s_ht / Σ_t s_ht, with gamma_norm
               over |S|/T;  r = rate + step where gamma ≥ alpha, rate − step where gamma ≤ beta, else rate;
               count = protected + round(r·|S|), at least one of S, with the largest base rate up to `rate`
               for which the layer's budget holds that
    Units      budget: an upper bound, in tokens of all kv heads together, protected ones included
    Cost       H·T time; no state
    Needs      scores that are attention of the queries that read; other scores stand for it: logits by their
               softmax, what is below 0 as 0, all alike where none is above
    Scope      layer: no layer waits for another
    Reduces to uniform for any budget that binds, and for alpha = 0 and rate = 1
    Raises     BadArgument where alpha is not above beta
    Differs    attention is of the queries that the score asks, and of a group's mean; the thresholds lie
               between the layers of the reference model, for the paper's were not at hand. What indifferent
               layers leave of the budget goes unused
    Paper      Meng et al. 2025, arXiv 2502.14504           Confidence  reconstruction
    """

    alpha: float = arg(0.9, low=0.0, doc="attention from which on a layer is attentive", above="beta")
    beta: float = arg(0.5, low=-1.0, doc="attention up to which a layer is indifferent")
    rate: float = arg(0.4, low=0.0, high=1.0, doc="share that a layer in between keeps")
    step: float = arg(0.3, low=0.0, high=1.0, doc="how much more attentive, and less indifferent ones keep")
    gamma_norm: bool = arg(False, doc="attention over what an even look would pay: 1 means even")

    name: ClassVar[str] = "attentive"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "demanded"
    is_uniform: ClassVar[bool] = True

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        live = torch.arange(protect.shape[-1], device=protect.device) < lengths[..., None]
        span = live & ~protect
        held, n_span = (protect & live).sum(-1), span.sum(-1)
        rates = self.rates(gamma(scores, live, span, self.gamma_norm))[:, None]
        wanted = (rates * n_span + 0.5).floor().long().clamp(min=1)
        room = (budget - held.sum(-1)).clamp(min=0) // lengths.shape[1]
        counts = held + torch.minimum(torch.minimum(wanted, n_span), room[:, None])
        return profile.unless_it_fits(counts, env, lengths, budget)

    def rates(self, attention: Tensor) -> Tensor:
        """The share of its span that every row's layer wants to keep: gamma [B] → float64 [B]."""
        step = (attention >= self.alpha).double() - (attention <= self.beta).double()
        return (self.rate + self.step * step).clamp(0, 1)

    def came_to(self, view: View) -> str:
        env, entries, _ = view
        held, seen = int(entries.lengths[0].max()), int(profile.seen(env, entries.lengths)[0])
        return f"every head keeps {held:,} of {seen:,} tokens ({100 * held / max(seen, 1):.0f} %)"


def gamma(scores: Scores, live: Tensor, span: Tensor, is_normed: bool = False) -> Tensor:
    """The share of attention that goes to a span, as the mean over the heads: [B].

    Shapes   scores [B, H | 1, T]; live, span bool [B, H, T]

    is_normed   over the share of the entries that lie in the span
    """
    paid = torch.where(live, scores.values, -math.inf)
    if scores.kind == "logit":
        paid = paid.softmax(-1)
    paid = paid.clamp(min=0)
    paid = torch.where((paid > 0).any(-1, keepdim=True), paid, live.float())
    inside, whole = torch.where(span, paid, 0.0).sum(-1), paid.sum(-1)
    share = inside / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    if is_normed:
        share = share * live.sum(-1) / span.sum(-1).clamp(min=1)
    return share.mean(-1)


def knob(rate: float, step: float, n_span: int, room: int) -> float:
    """The base rate that a budget comes to, in a layer that keeps `step` more or less of n_span entries per
    head, while there is room for `room` of them.
    """
    return min(rate, room / max(n_span, 1) - step)
