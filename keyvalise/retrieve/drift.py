"""Reading anew where the queries turn elsewhere: a trigger, and units of what was written in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.drift import DriftObserver
from keyvalise.ops import clusters, stretches
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class DriftTrigger:
    """Units are chosen anew where a query points elsewhere than the one before it.

    Shapes     → bool [B]
    Formula    mean over query heads of cos(q_{t−1}, q_t) < tau, queries un-rotated; not within `least` tokens
               of the last time
    Cost       4·Hq·D bytes per row and layer
    Needs      queries
    Phase      decode                                       Scope  layer
    Reduces to always for tau above 1; to one choice for all steps for tau = −1
    Differs    queries are compared before their rotation, or they would drift by position alone; the least
               length is ours. The paper leaves both open
    Paper      Wu et al. 2025, arXiv 2510.11292             Confidence  paper
    """

    tau: float = arg(0.7, low=-1.0, high=1.1, doc="likeness below which a stretch begins")
    least: int = arg(1, low=1, doc="tokens of a stretch at least")

    name: ClassVar[str] = "drift"
    room: ClassVar[str] = "trigger"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (DriftObserver(self.tau, self.least),)

    def due(self, env: Env, queries: Queries) -> Tensor:
        q = queries.q[:, :, -1]
        seen = torch.tensor(queries.stretch.ends, device=q.device) - 1
        return DriftObserver(self.tau, self.least).has_drifted(env, queries.stats, q, seen)


@dataclass(frozen=True, slots=True)
class StretchesUnit:
    """What came with a prompt is read by clusters, what was written since by stretches between two drifts.

    Shapes     → int64 [B, H, T]
    Formula    entries of the prompt: clusters of n on average, as `clusters` cuts them; later ones: those of
               one stretch, cut after every `most` entries
    Units      n, most: entries;  tau, least: see `drift`
    Cost       as `clusters`, and DriftObserver: 4 bytes per entry and kv head until it is in a unit
    Needs      keys, queries
    Phase      a block is cut when it is complete, and never again
    Scope      per kv head
    Differs    how long a stretch may become is ours
    Paper      Wu et al. 2025, arXiv 2510.11292             Confidence  paper
    """

    n: int = arg(16, low=1, doc="entries of a cluster, on average")
    tau: float = arg(0.7, low=-1.0, high=1.1, doc="likeness below which a stretch begins")
    least: int = arg(1, low=1, doc="tokens of a stretch at least")
    most: int = arg(64, low=1, doc="entries of a stretch at most")

    name: ClassVar[str] = "stretches"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    keeps_order: ClassVar[bool] = False

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (DriftObserver(self.tau, self.least),)

    @property
    def length(self) -> float:
        return float(self.n)

    def cut(self, env: Env, entries: Entries) -> Tensor:
        prompts = torch.tensor(env.prompt, device=entries.live.device)[:, None, None]
        said = entries.live & (entries.ordinals < prompts)
        units = clusters.of_heads(entries.keys(), said.sum(-1), self.n)
        first = torch.where(said, units, -1).amax(-1, keepdim=True) + 1
        written = entries.live & ~said
        numbers = entries.column(self.observers[0].column).masked_fill(said, -1.0)  # type: ignore[attr-defined]
        later = stretches.units(numbers, entries.live, self.most)
        begin = torch.where(written, later, torch.iinfo(later.dtype).max).amin(-1, keepdim=True)
        return torch.where(said, units, later - begin + first).clamp(min=0)
