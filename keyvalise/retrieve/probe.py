"""A query that speaks for a window's unusual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.spread import SpreadObserver
from keyvalise.observe.window import WindowObserver
from keyvalise.ops import probe, rope
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class ProbingQuery:
    """The mean of the last n queries searches, each weighed by how far it lies from what is usual.

    Shapes     → float32 [B, Hq, D]
    Formula    bias_i = mean over all Hq·D features of (q_i − μ)²/(var + mean var/100), μ and var over all
               queries of the row so far;  probe = Σ_i q_i·bias_i / Σ bias, queries un-rotated, turned to
               the newest one's position; the newest counts everywhere
    Units      n: queries
    Cost       nothing for n = 1; else n·Hq·D time, the numbers of n − 1 queries and 4 + 8·Hq·D bytes per row
               and layer
    Needs      nothing for n = 1; else queries, and a rotary embedding that does not change with length, or
               none
    Phase      decode
    Scope      per query head, with weights of the layer
    Reduces to now for n = 1; to the window's mean query where all are equally unusual
    Differs    the window ends with the newest query and moves with it, where the official code cuts a prompt
               into windows and decodes with single queries. Statistics are kept per row and layer, and
               weights are those of the formula from the first window on; there they are shared between layers
               and texts, and weights are all 1 until they have been updated a thousand times
    Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
    """

    n: int = arg(1, low=1, doc="queries that search together", is_window=True)

    name: ClassVar[str] = "probing"
    room: ClassVar[str] = "query"
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def needs(self) -> frozenset[str]:
        return frozenset() if self.n == 1 else frozenset({"queries:piece", "rope:static"})

    @property
    def observers(self) -> tuple[Observer, ...]:
        return () if self.n == 1 else (WindowObserver(self.n - 1), SpreadObserver())

    def query(self, env: Env, queries: Queries) -> Tensor:
        newest = queries.q[:, :, -1].float()
        if self.n == 1:
            return newest
        window, stats = WindowObserver(self.n - 1), queries.stats
        q = torch.cat([stats[window.q_name].float(), newest[:, :, None]], 2)
        last = queries.stretch.ordinals(q.device)[:, -1:]
        places = torch.cat([stats[window.ordinals_name], last], 1)
        if env.rope is not None:
            q = rope.unrotate(q, places.clamp(min=0)[:, None], env.rope)
        spread = (stats["spread_n"], stats["spread_mean"], stats["spread_m2"])
        spread = probe.merge(spread, q[:, :, -1:], last >= 0)
        mean: Tensor = probe.weighted_mean(q, probe.activation_bias(q, spread, places >= 0), places >= 0)
        return mean if env.rope is None else rope.apply(mean, last.clamp(min=0), env.rope)

    def is_ready(self, env: Env, queries: Queries) -> Tensor | None:
        return None
