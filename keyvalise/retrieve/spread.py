"""Spreads: the mean of a unit's keys, and how far they usually lie from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import units
from keyvalise.types.argument import arg
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class SpreadSummary:
    """What a key of a unit reaches that lies `z` usual deviations from the mean, towards the query.

    Shapes     "centroid" [B, H, U, D], "spread" [B, H, U] in the stored dtype
    Formula    logit = scale·(q·c_u + z·‖q‖·σ_u), σ_u² = Σ w_i·‖k_i − c_u‖² / (D·Σ w_i), w_i = exp(logw_i)
    Units      z: deviations
    Cost       D + 1 numbers per unit; U·G·D time per kv head to ask all
    Needs      keys
    Scope      per query head
    Reduces to centroid for z = 0; to the key itself for a unit of one entry
    Differs    ours: between the mean, which hides a unit's best key, and the bounds of `ball` and `box`,
               which follow its oddest
    """

    z: float = arg(2.0, low=0.0, doc="deviations from the mean")

    name: ClassVar[str] = "spread"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:mean", "units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return (geometry.key_dim + 1) * geometry.itemsize

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        entries, dtype, n = cut.entries, env.geometry.dtype, cut.sizes.shape[-1]
        keys, weight = entries.keys(), units.weights(entries)
        centres = units.means(keys, weight, cut.unit, n).to(dtype)
        spread = units.spreads(keys, weight, cut.unit, centres.float())
        return {"centroid": centres, "spread": spread.to(dtype)}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        known = table.summaries
        return env.geometry.scale * units.reaching(q, known["centroid"], self.z * known["spread"].float())
