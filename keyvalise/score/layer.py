"""One score for all heads of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import heads
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class LayerRescore:
    """Mean or maximum over all heads of the layer, so that every head keeps the same entries.

    Shapes     [B, N, T] → [B, 1, T] for any head axis N; with max, "mass" becomes "free"
    Formula    s'_t = mean_h s_ht or max_h s_ht
    Cost       N·T time
    Needs      heads that hold the same entries: no earlier stage may have chosen per head
    Reduces to the identity for one head
    Paper      Oren et al. 2024, arXiv 2401.06104 (mean)    Confidence  official code
    """

    how: Literal["mean", "max"] = arg("mean", choices=("mean", "max"))

    name: ClassVar[str] = "layer"
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
        return heads.reduce_layer(scores, entries.live, self.how)
