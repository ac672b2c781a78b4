"""Query heads to kv heads: the mean or the maximum over the group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import heads
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class MeanRescore:
    """Mean over the query heads that share a kv head; what a chain ends with unless it says otherwise.

    Shapes     [B, Hq, T] → [B, H, T]; scores per kv head or per layer pass; the kind stays
    Formula    s'_h = (1/G) Σ_g s_{hG+g}
    Cost       Hq·T time
    Reduces to the identity for G = 1
    """

    name: ClassVar[str] = "mean"
    room: ClassVar[str] = "rescore"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores:
        return heads.reduce(scores, env.geometry, "mean")


@dataclass(frozen=True, slots=True)
class MaxRescore:
    """Maximum over the query heads that share a kv head: one head that needs an entry is enough.

    Shapes     [B, Hq, T] → [B, H, T]; scores per kv head or per layer pass; "mass" becomes "free"
    Formula    s'_h = max_g s_{hG+g}
    Cost       Hq·T time
    Reduces to the identity for G = 1
    """

    name: ClassVar[str] = "max"
    room: ClassVar[str] = "rescore"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset({"scores:mass"})

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores:
        return heads.reduce(scores, env.geometry, "max")
