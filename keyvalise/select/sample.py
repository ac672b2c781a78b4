"""A weighted random sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import hashing, topk
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores


@dataclass(frozen=True, slots=True)
class SampleSelect:
    """Every head keeps its protected entries and a random sample of the others that stands for all of them.

    Shapes     scores [B, H | 1, T], counts int [B, H], protect bool [B, H, T]
               → keep bool [B, H, T], add_logw float32 [B, H, T]
    Formula    uniform: the n best draws u of the N unprotected entries, each with log-weight + log(N/n)
               score: the n largest priorities s/u, each with + log max(1, τ/s), τ the largest priority left
               out Both make Σ exp(logw + x) over the kept ones an unbiased estimate of Σ exp(x) over all, for
               any x
    Cost       H·T·log T time; log-weights of 4 bytes per entry and kv head from then on
    Phase      meant for one decision per entry, at the prompt: an entry keeps its draw, so a second decision
               sees survivors with good draws beside newcomers with fresh ones and is no longer unbiased
    Scope      layer; not invariant to a permutation of the heads
    Reduces to random > top plus a constant log-weight (uniform); no weights where everything is kept
    Differs    draws are the ones of the score "random": per kv head and ordinal, not per row. Entries of
               score −inf are dropped, not sampled. With `score`, scores below 10⁻⁶ of the head's largest
               count as that much.
    Paper      Duffield, Lund, Thorup 2007 (priority sampling)    Confidence  paper
    """

    by: Literal["uniform", "score"] = arg("uniform", choices=("uniform", "score"), doc="chances of an entry")

    name: ClassVar[str] = "sample"
    room: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"logw"})
    takes: ClassVar[frozenset[str]] = frozenset({"sets:layer"})

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice:
        is_rival = entries.live & ~protect & ~torch.isneginf(scores.values)
        draws = hashing.per_entry(env, "random", entries).float()
        if self.by == "uniform":
            keep = topk.top(draws.masked_fill(~is_rival, -math.inf), counts, protect, entries.live)
            n_kept = (keep & is_rival).sum(-1, keepdim=True).clamp(min=1)
            weight = (is_rival.sum(-1, keepdim=True) / n_kept).log().expand(keep.shape)
        else:
            values = torch.where(is_rival, scores.values, 0.0).clamp(min=0.0)
            sizes = torch.maximum(values, values.amax(-1, keepdim=True) * 1e-6).clamp(min=1e-30).log()
            ranks = (sizes - draws.clamp(min=2.0**-24).log()).masked_fill(~is_rival, -math.inf)
            keep = topk.top(ranks, counts, protect, entries.live)
            threshold = ranks.masked_fill(keep, -math.inf).amax(-1, keepdim=True)
            weight = (threshold - sizes).clamp(min=0.0)
        return Choice(keep, torch.where(keep & is_rival, weight, 0.0))
