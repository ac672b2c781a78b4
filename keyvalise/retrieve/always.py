"""A new choice at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.types.data import Env, Queries
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class AlwaysTrigger:
    """Units are chosen anew at every step.

    Shapes     → bool [B]
    Scope      layer
    """

    name: ClassVar[str] = "always"
    room: ClassVar[str] = "trigger"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()

    def due(self, env: Env, queries: Queries) -> Tensor:
        return torch.ones(queries.q.shape[0], dtype=torch.bool, device=queries.q.device)
