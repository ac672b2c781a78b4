"""What all queries attend to, and what the last ones do, on one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.observe.mass import MassObserver
from keyvalise.observe.window import WindowObserver
from keyvalise.ops import heads, mass
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class GlobalLocalScore:
    """Accumulated attention or that of the last n queries, whichever is larger once their means agree.

    Shapes     → [B, H, T] float32, "free", ≥ 0
    Formula    g_t = mass_t;  l_t = mean over the last n queries and the group of the attention on t;
               s_t = max(g_t, l_t·Σ g/Σ l), sums over the live entries; combine=sum: their sum
    Cost       Hq·n·T·D time; MassObserver pays Hq·S·T·D per piece and 4 bytes per entry and kv head
    Needs      queries, keys, lse; MassObserver and WindowObserver(n)
    Phase      prompt and decode                            Scope  layer
    Reduces to mass, up to a factor for sum, where n covers all queries and nothing was dropped before
    Differs    the paper's text was not at hand: how the two are combined is reconstructed from what others
               report of it. Means are taken per kv head, over the entries that are still held
    Paper      Li et al. 2024, arXiv 2412.08521             Confidence  reconstruction
    """

    n: int = arg(32, low=1, doc="queries that vote on what matters now", is_window=True)
    combine: Literal["max", "sum"] = arg("max", choices=("max", "sum"))

    name: ClassVar[str] = "global_local"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (MassObserver(), WindowObserver(self.n))

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        window = WindowObserver(self.n)
        votes = mass.window_mass(env.geometry, stats[window.q_name], stats[window.ordinals_name], entries)
        local = heads.reduce(Scores(votes), env.geometry).values
        total = entries.column("mass").masked_fill(~entries.live, 0.0)
        least = torch.finfo(local.dtype).tiny
        aligned = local * (total.sum(-1, keepdim=True) / local.sum(-1, keepdim=True).clamp(min=least))
        return Scores(torch.maximum(total, aligned) if self.combine == "max" else total + aligned)
