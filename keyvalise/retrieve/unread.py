"""What becomes of units that are not read: nothing, or an estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from keyvalise.ops import attend, units
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Partial, Queries
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount, Share
from keyvalise.types.retrieve import Cut, Summaries


@dataclass(frozen=True, slots=True)
class LeaveResidual:
    """What is not read does not count.

    Formula    out 0, lse −inf
    Scope      layer
    """

    name: ClassVar[str] = "leave"
    room: ClassVar[str] = "residual"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    amount: ClassVar[Amount] = 0

    def unit_bytes(self, geometry: Geometry) -> int:
        return 0

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        return {}

    def answer(self, env: Env, summaries: Summaries, chosen: Tensor, queries: Queries) -> Partial:
        return Partial(*attend.empty(queries.q, env.geometry.value_dim))


@dataclass(frozen=True, slots=True)
class EstimateResidual:
    """The next best units are answered for by their means.

    Shapes     "value" [B, H, U, Dv] in the stored dtype, "logw" float32 [B, H, U]
    Formula    a unit counts as one entry: key c_u, value Σ w_i·v_i / Σ w_i, log-weight log Σ w_i with
               w_i = exp(logw_i); by Jensen it never weighs more than its entries together
    Units      amount: entries of the units that are estimated, or a share of those in units
    Cost       Dv numbers and 4 bytes per unit; amount/length·(D + Dv) numbers per choice and step
    Needs      means of keys
    Scope      per query head
    Reduces to reading for units of one entry
    Paper      Chen et al. 2025, arXiv 2505.02922           Confidence  official code
    """

    amount: Amount = arg(Share(23.2), low=1, doc="entries that are estimated")

    name: ClassVar[str] = "estimate"
    room: ClassVar[str] = "residual"
    needs: ClassVar[frozenset[str]] = frozenset({"units:mean", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def unit_bytes(self, geometry: Geometry) -> int:
        return geometry.value_dim * geometry.itemsize + 4

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        weight, n = units.weights(cut.entries), cut.sizes.shape[-1]
        values = units.means(cut.entries.values(), weight, cut.unit, n)
        return {"value": values.to(env.geometry.dtype), "logw": units.masses(weight, cut.unit, n).log()}

    def answer(self, env: Env, summaries: Summaries, chosen: Tensor, queries: Queries) -> Partial:
        keys, values, logw = (summaries[name].flatten(0, 2) for name in ("centroid", "value", "logw"))
        _, n_heads, n_units = summaries["logw"].shape
        _, home, unit = units.listed(chosen, n_heads)
        counts = (chosen >= 0).sum(-1).flatten()
        bounds, index = (0, *counts.cumsum(0).tolist()), home * n_units + unit
        told: dict[str, Any] = {"scale": queries.scale, "softcap": queries.softcap, "logw": logw}
        return Partial(*attend.ragged(queries.q, keys, values, bounds=bounds, index=index, **told))
