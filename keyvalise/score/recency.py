"""Newer is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class RecencyScore:
    """The ordinal of an entry: the newest matter most.

    Shapes     → [B, H, T] float32, "free"
    Formula    s_t = ordinal_t (exact up to 2²⁴ tokens)
    Cost       H·T time, no state
    Phase      prompt and decode                           Scope  layer; independent of the text
    Reduces to StreamingLLM with drop(sinks=4)
    Paper      Xiao et al. 2023, arXiv 2309.17453          Confidence  official code
    """

    name: ClassVar[str] = "recency"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"sets:layer", "sets:model"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return Scores(entries.ordinals.float().masked_fill(~entries.live, 0.0))
