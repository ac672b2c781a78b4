"""Balls: the mean of a unit's keys, and how far the farthest lies from it."""

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
class BallSummary:
    """The most that any key in the ball around a unit's mean could reach.

    Shapes     "centroid" [B, H, U, D], "radius" [B, H, U] in the stored dtype
    Formula    logit = scale·(q·c_u + ‖q‖·ρ_u) ≥ scale·q·k for every key of the unit, to the rounding of what
               is stored
    Cost       D + 1 numbers per unit; U·G·D time per kv head to ask all
    Needs      keys
    Scope      per query head
    Reduces to the key itself for a unit of one entry
    Differs    ours: a bound of vector retrieval as a summary
    Paper      Bruch 2024, arXiv 2401.09350                 Confidence  reconstruction
    """

    name: ClassVar[str] = "ball"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:mean", "units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return (geometry.key_dim + 1) * geometry.itemsize

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        entries, dtype = cut.entries, env.geometry.dtype
        centres = units.means(entries.keys(), units.weights(entries), cut.unit, cut.sizes.shape[-1]).to(dtype)
        radius = units.radii(entries.keys(), entries.live, cut.unit, centres.float())
        return {"centroid": centres, "radius": radius.to(dtype)}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        known = table.summaries
        return env.geometry.scale * units.reaching(q, known["centroid"], known["radius"])
