"""Attention counts by the length of the value it fetches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import weigh
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class ValueNormRescore:
    """Scores times the length of the value, so that attention on an empty value counts for nothing.

    Shapes     [B, N, T] → [B, N, T] for any head axis N, "free"; base holds the scores before
    Formula    s'_t = s_t·‖v_t‖_p;  for one score per layer the mean of the lengths over its kv heads
    Cost       H·T·Dv time; one float32 copy of the values
    Needs      values; scores ≥ 0
    Scope      layer. A group shares its values, so reducing it by mean or max before or after is the same
    Reduces to its base where all values are equally long
    Differs    sinks are protected by drop(sinks=20), not by the largest number of the dtype. Without them the
               product drops the first tokens of most models, whose values are almost zero
    Paper      Guo et al. 2024, arXiv 2406.12335            Confidence  official code
    """

    p: Literal[1, 2] = arg(1, choices=(1, 2), doc="the norm: sum of absolute numbers, or Euclidean")

    name: ClassVar[str] = "value_norm"
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
        lengths = weigh.clean_values(entries).norm(p=self.p, dim=-1)
        return weigh.weighed(scores, weigh.on_heads(lengths, scores.values.shape[1]), entries.live)
