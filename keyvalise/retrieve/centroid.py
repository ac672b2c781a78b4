"""Centroids: the mean key of a unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import units
from keyvalise.types.argument import arg
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class CentroidSummary:
    """The mean of a unit's keys, as they are stored.

    Shapes     "centroid" [B, H, U, D] in the stored dtype
    Formula    c_u = Σ w_i·k_i / Σ w_i, w_i = exp(logw_i);  logit = scale·q·c_u, or scale·‖q‖·cos(q, c_u)
    Cost       D numbers per unit; U·G·D time per kv head to ask all
    Needs      keys
    Scope      per query head
    Reduces to the key itself for a unit of one entry
    Differs    not normalised, whatever the clusters were found by: only the mean itself keeps
               Σ w·exp(scale·q·c) below what the unit's entries weigh together (Jensen)
    Paper      Chen et al. 2025, arXiv 2505.02922           Confidence  official code
    """

    measure: Literal["dot", "cosine"] = arg("dot", choices=("dot", "cosine"), doc="what is compared")

    name: ClassVar[str] = "centroid"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:mean", "units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return geometry.key_dim * geometry.itemsize

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        keys = units.means(cut.entries.keys(), units.weights(cut.entries), cut.unit, cut.sizes.shape[-1])
        return {"centroid": keys.to(env.geometry.dtype)}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        return env.geometry.scale * units.compared(q, table.summaries["centroid"], self.measure)
