"""Accumulated attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.mass import MassObserver
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class MassScore:
    """Attention an entry has received since it arrived; optionally per query that could see it.

    Shapes     → [B, H, T] float32, "free"
    Formula    s_t = mass_t;  average: s_t = mass_t / (tokens seen − ordinal_t)
    Cost       H·T time here; MassObserver pays Hq·S·T·D per piece and 4 bytes per entry and kv head
    Needs      queries, keys, lse; MassObserver
    Phase      prompt and decode                            Scope  layer
    Reduces to the newest query's attention after a single query; to window(n) > mean over a prompt of n
               tokens
    Differs    H2O accumulates per query head and over the batch; here it is the mean over the group, which
               ranks entries like the sum, and every row by itself. Observed attention divides over the prompt
               only; here decode queries count as well.
    Paper      Zhang et al. 2023, arXiv 2306.14048          Confidence  official code
    """

    average: bool = arg(False, doc="divide by the number of queries that could see the entry")

    name: ClassVar[str] = "mass"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (MassObserver(),)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        values = entries.column("mass").masked_fill(~entries.live, 0.0)
        if self.average:
            ends = torch.tensor(piece.stretch.ends, device=values.device)[:, None, None]
            values = values / (ends - entries.ordinals)
        return Scores(values)
