"""The query of the moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.types.data import Env, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class NowQuery:
    """The newest query searches for itself.

    Shapes     → float32 [B, Hq, D]
    Formula    q_s for the last s
    Scope      per query head
    """

    name: ClassVar[str] = "now"
    room: ClassVar[str] = "query"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def query(self, env: Env, queries: Queries) -> Tensor:
        return queries.q[:, :, -1].float()

    def is_ready(self, env: Env, queries: Queries) -> Tensor | None:
        return None
