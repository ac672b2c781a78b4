"""Landmarks: the mean key of those entries of a unit that were attended to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.observe.mass import MassObserver
from keyvalise.ops import units
from keyvalise.types.argument import arg
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class LandmarksSummary:
    """The mean of the n keys of a unit that have received most attention before it was cut.

    Shapes     "landmark" [B, H, U, D] in the stored dtype
    Formula    c_u = Σ w_i·k_i / Σ w_i over the n entries of the unit with the largest mass, w_i =
               exp(logw_i);  logit = scale·q·c_u, or scale·‖q‖·cos(q, c_u)
    Units      n: entries
    Cost       D numbers per unit; MassObserver: a prompt's attention once more, 4 bytes per entry and kv head
               until it is in a unit
    Needs      queries, keys and lse of the piece
    Phase      a unit's landmarks are chosen when it is cut, and never again
    Scope      per query head
    Reduces to centroid where n is no less than a unit's entries; to the key itself for a unit of one entry
    Differs    attention of all queries since an entry came, where the official code counts those of a local
               window: a prompt has none here. Entries of equal mass, as those of another cache that nobody
               attended to yet, are taken from the front
    Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
    """

    n: int = arg(4, low=1, doc="entries that speak for a unit")
    measure: Literal["dot", "cosine"] = arg("cosine", choices=("dot", "cosine"), doc="what is compared")

    name: ClassVar[str] = "landmarks"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "lse"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = (MassObserver(),)

    def unit_bytes(self, geometry: Geometry) -> int:
        return geometry.key_dim * geometry.itemsize

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        speaks = _foremost(cut.entries.column("mass"), cut, self.n)
        weight = torch.where(speaks, units.weights(cut.entries), 0.0)
        keys = units.means(cut.entries.keys(), weight, cut.unit, cut.sizes.shape[-1])
        return {"landmark": keys.to(env.geometry.dtype)}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        return env.geometry.scale * units.compared(q, table.summaries["landmark"], self.measure)


def _foremost(column: Tensor, cut: Cut, n: int) -> Tensor:
    """bool [B, H, T]: the n entries of every unit that have most in the column, earlier ones among equals."""
    live, n_units = cut.entries.live, cut.sizes.shape[-1]
    order = torch.where(live, column, -torch.inf).argsort(dim=-1, descending=True, stable=True)
    home = torch.where(live, cut.unit, n_units).gather(-1, order)
    home, again = home.sort(dim=-1, stable=True)
    order = order.gather(-1, again)
    # Behind all units stand the slots where nothing lives.
    begin = torch.nn.functional.pad(cut.sizes.long().cumsum(-1), (1, 0)).gather(-1, home)
    rank = torch.arange(order.shape[-1], device=order.device) - begin
    return torch.zeros_like(live).scatter(-1, order, rank < n) & live
