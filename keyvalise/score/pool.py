"""Smoothing of scores along the entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import heads, pool
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class PoolRescore:
    """One-dimensional pooling over neighbouring entries, so that what stands beside a vote survives with it.

    Shapes     [B, N, T] → [B, N, T] for any head axis N; "free", or "logit" where it was
    Formula    mean: s'_t = Σ_{|i−t| ≤ size//2} s_i / size with zeros beyond the ends;  max: the largest of
               them
    Cost       N·T·size time
    Reduces to the identity for size = 1
    Differs    neighbours are neighbours among the entries still held, in order of ordinals. Mean pooling
               counts the zeros beyond the ends, as the paper's code does: edge entries are scaled down. An
               entry that must go (−inf) stays so and counts as zero for its neighbours.
    Raises     BadArgument for an even size
    Paper      Li et al. 2024, arXiv 2404.14469             Confidence  official code
    """

    size: int = arg(5, choices=tuple(range(1, 64, 2)), doc="entries pooled together")
    how: Literal["mean", "max"] = arg("mean", choices=("mean", "max"))

    name: ClassVar[str] = "pool"
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
        if self.size == 1:
            return scores
        live = heads.spread(entries.live, scores.values.shape[1])
        smooth = pool.average if self.how == "mean" else pool.largest
        base = None if scores.base is None else smooth(scores.base, live, self.size)
        return Scores(smooth(scores.values, live, self.size), heads.unsummed(scores.kind), base)
