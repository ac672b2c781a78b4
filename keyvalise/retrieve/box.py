"""Boxes: the lowest and highest number of every channel in a unit's keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import units
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class BoxSummary:
    """The most that any key between a unit's lowest and highest channels could reach.

    Shapes     "low", "high" [B, H, U, D] in the stored dtype
    Formula    logit = scale·Σ_c max(q_c·low_c, q_c·high_c) ≥ scale·q·k for every key of the unit
    Cost       2·D numbers per unit; 2·U·G·D time per kv head to ask all
    Needs      keys
    Scope      per query head
    Reduces to the key itself for a unit of one entry
    Paper      Tang et al. 2024, arXiv 2406.10774           Confidence  official code
    """

    name: ClassVar[str] = "box"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return 2 * geometry.key_dim * geometry.itemsize

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        ends = units.extremes(cut.entries.keys(), cut.entries.live, cut.unit, cut.sizes.shape[-1])
        low, high = (end.to(env.geometry.dtype) for end in ends)
        return {"low": low, "high": high}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        # Positive channels of a query reach furthest at the high end, negative ones at the low.
        high, low = (
            units.logits(q.clamp(min=0), table.summaries["high"]),
            units.logits(q.clamp(max=0), table.summaries["low"]),
        )
        return env.geometry.scale * (high + low)
