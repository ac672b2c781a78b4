"""Some by one score, the rest by another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import topk
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores


@dataclass(frozen=True, slots=True)
class TwoStageSelect:
    """A share of every head's count goes to the best before values were weighed, the rest to the best after.

    Shapes     scores and their base [B, H | 1, T], counts int [B, H], protect bool [B, H, T]
               → keep bool [B, H, T]
    Formula    the ⌊share·count_h⌋ first in the order (protected, base, ordinal), then those of the others
               that are first in the order (protected, score, ordinal), up to count_h
    Units      share: of the count, protected entries included
    Cost       twice that of top: H·T·log T time
    Scope      layer
    Reduces to top for share = 0, or where nothing weighed the scores (base is None: a rescorer behind the
               weighing, other than mean and max, forgets it); to top of the base for share = 1
    Differs    protected entries fill the first stage before others do, as the highest scores do in the
               reference code
    Paper      Feng et al. 2025, arXiv 2502.03805           Confidence  official code
    """

    share: float = arg(0.5, low=0.0, high=1.0, doc="part of the count that goes to the scores before")

    name: ClassVar[str] = "two_stage"
    room: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice:
        if scores.base is None:
            return Choice(topk.top(scores.values, counts, protect, entries.live))
        # What must go after the weighing must not stay for what it was before.
        base = scores.base.masked_fill(torch.isneginf(scores.values), -math.inf)
        n_first = (counts.double() * self.share + 1e-9).long()
        first = topk.top(base, n_first, protect, entries.live)
        return Choice(topk.top(scores.values, counts, protect | first, entries.live))
