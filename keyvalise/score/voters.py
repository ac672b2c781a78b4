"""A few heads vote for their layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import heads
from keyvalise.types.argument import arg, asset
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class VotersRescore:
    """Mean over the n heads of the layer that a profile ranks highest; all heads keep the same entries.

    Shapes     profile "heads" [L, Hq | H]; [B, Hq | H, T] → [B, 1, T]; the kind stays; a single head passes
    Formula    s'_t = mean of s_ht over the n heads h with the highest scores in the profile, of equals the
               lower
    Cost       n·T time
    Needs      heads that hold the same entries: no earlier stage may have chosen per head; a profile
    Reduces to layer(mean) for n of all heads or more
    Raises     AssetError where the profile is missing or another model's
    Differs    where scores and profile differ in their heads, a kv head ranks as the best of its group, and a
               group votes with its kv head's score
    Paper      Lin et al. 2025, arXiv 2508.02401            Confidence  official code
    """

    profile: str = asset("semantic_retrieval", doc="scores or ranks of all heads", kind="heads")
    n: int = arg(4, low=1, doc="heads that vote in every layer")

    name: ClassVar[str] = "voters"
    room: ClassVar[str] = "rescore"
    needs: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    gives: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores:
        n_heads = scores.values.shape[1]
        if n_heads == 1:
            return scores
        ranks = env.fixed[self.profile]["heads"][env.layer].to(scores.values.device)
        if len(ranks) > n_heads:
            ranks = ranks.unflatten(0, (n_heads, -1)).amax(-1)
        best = ranks.repeat_interleave(n_heads // len(ranks)).argsort(descending=True, stable=True)[: self.n]
        votes = torch.where(heads.spread(entries.live, 1), scores.values[:, best], 0.0)
        return scores.with_values(votes.mean(1, keepdim=True))
