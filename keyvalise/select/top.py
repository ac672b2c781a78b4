"""The highest scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import topk
from keyvalise.types.data import Choice, Entries, Env, Scores


@dataclass(frozen=True, slots=True)
class TopSelect:
    """Every head keeps its protected entries, then its highest scores; of equals the later entry stays.

    Shapes     scores [B, H | 1, T], counts int [B, H], protect bool [B, H, T] → keep bool [B, H, T]
    Formula    the counts_h first in the order (protected, score, ordinal), descending; of the protected the
               newest
    Cost       H·T·log T time
    Scope      layer; what is chosen does not depend on padding or on other rows
    Differs    a count is met exactly, unless fewer entries have a score above −inf: such an entry must go
    """

    name: ClassVar[str] = "top"
    room: ClassVar[str] = "select"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice:
        return Choice(topk.top(scores.values, counts, protect, entries.live))
