"""Keys: every entry speaks for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class KeysSummary:
    """The keys themselves, where they lie.

    Formula    logit = scale·q·k
    Cost       nothing is stored; T·G·D time per kv head to ask all
    Needs      units of one entry, raw keys near by
    Scope      per query head
    Reduces to the exact ranking: what every other summary guesses at
    """

    name: ClassVar[str] = "keys"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "units:one", "entries:near"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return 0

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        return {}

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        n_rows, n_heads, n_units = table.sizes.shape
        asked = env.geometry.scale * q.float().unflatten(1, (n_heads, -1)).flatten(0, 1)
        found = asked.new_zeros(*asked.shape[:2], n_units)
        for home in range(n_rows * n_heads):
            keys = table.keys(home).float()
            found[home, :, : len(keys)] = asked[home] @ keys.T
        ranked: Tensor = found.unflatten(0, (n_rows, n_heads)).flatten(1, 2)
        return ranked
