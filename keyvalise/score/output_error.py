"""How far the output moves without an entry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import heads, weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer

LEAST_REST = 1e-6
"""The least that the other entries of a head count for together."""


@dataclass(frozen=True, slots=True)
class OutputErrorRescore:
    """How far the attention output moves when this one entry is dropped and the others take its share.

    Shapes     [B, Hq | H, T] → [B, H, T], [B, 1, T] → [B, 1, T], "free"; base holds the scores before, by
               mean over the group
    Formula    a = s/Σ s over the live entries; o_g = Σ_t a_gt·v_t, or with centre=mean the mean of the live
               values; c_t = sqrt(Σ_g (a_gt/(1 − a_gt))²·‖o_g − v_t‖²), g over the query heads of the group
               reduced: the mean of s over the group first, one o per kv head;  1 − a is at least 10⁻⁶
               Scores of a whole layer: the sum runs over all its kv heads, which keep or drop together
    Cost       Hq·T·Dv time (H·T·Dv reduced); two float32 copies of the values, one head of a group at a time
    Needs      values; scores ≥ 0, of any sum
    Scope      layer. Each score is exact for dropping that entry alone; the lowest together are no joint
               optimum
    Reduces to 0 for every entry where all values are equal; exact = reduced for one query head per kv head
    Differs    the paper leaves grouped heads open; here the error of the concatenated heads of a group counts
    Paper      Goel et al. 2025, arXiv 2504.14051           Confidence  reconstruction
    """

    group: Literal["exact", "reduced"] = arg("exact", choices=("exact", "reduced"))
    centre: Literal["output", "mean"] = arg(
        "output", choices=("output", "mean"), doc="what a value is compared with; mean is FastCAOTE"
    )

    name: ClassVar[str] = "output_error"
    room: ClassVar[str] = "rescore"
    needs: ClassVar[frozenset[str]] = frozenset({"values", "scores:positive"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"scores:mass"})

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores:
        votes = heads.reduce(scores, env.geometry) if self.group == "reduced" else scores
        n_votes, n_heads = votes.values.shape[1], entries.live.shape[1]
        shares = weigh.shares(votes.values, heads.spread(entries.live, n_votes))
        grouped = shares.expand(-1, max(n_votes, n_heads), -1).unflatten(1, (n_heads, -1))
        errors = self._errors(weigh.clean_values(entries), grouped, entries.live)
        if n_votes == 1:
            errors = torch.linalg.vector_norm(errors, dim=1, keepdim=True)
        base = heads.reduce(Scores(weigh.before(votes, entries.live)), env.geometry).values
        return Scores(errors.masked_fill(torch.isneginf(base), -math.inf), "free", base)

    def _errors(self, values: Tensor, shares: Tensor, live: Tensor) -> Tensor:
        """values [B, H, T, Dv] and shares [B, H, G, T] → [B, H, T]."""
        factors = shares / (1 - shares).clamp(min=LEAST_REST)
        if self.centre == "mean":
            mean = values.sum(2, keepdim=True) / live.sum(-1).clamp(min=1)[..., None, None]
            total: Tensor = (values - mean).norm(dim=-1) * torch.linalg.vector_norm(factors, dim=2)
            return total
        outputs, total = shares @ values, torch.zeros_like(shares[:, :, 0])
        for factor, output in zip(factors.unbind(2), outputs.unbind(2), strict=True):
            # hypot adds squares that would vanish in float32 if they were formed.
            total = torch.hypot(total, factor * (values - output[:, :, None]).norm(dim=-1))
        return total
