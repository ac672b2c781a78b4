"""The smallest and the largest units: every entry by itself, and all of a head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class TokensUnit:
    """Every entry is a unit.

    Shapes     → int64 [B, H, T]
    Formula    u_t = t
    Cost       one summary per entry
    Scope      per kv head
    Paper      Liu et al. 2024, arXiv 2409.10516            Confidence  official code
    """

    name: ClassVar[str] = "tokens"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike", "units:one"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()
    keeps_order: ClassVar[bool] = True
    length: ClassVar[float] = 1.0

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return torch.arange(entries.live.shape[-1], device=entries.live.device).expand(entries.live.shape)


@dataclass(frozen=True, slots=True)
class HeadsUnit:
    """All entries of a head are one unit.

    Shapes     → int64 [B, H, T]
    Formula    u_t = 0
    Cost       next to nothing is stored beside the entries
    Phase      every block is a unit of its own
    Scope      per kv head
    Paper      Luo et al. 2025, arXiv 2502.12574            Confidence  official code
    """

    name: ClassVar[str] = "heads"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()
    keeps_order: ClassVar[bool] = True
    length: ClassVar[float] = math.inf

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return torch.zeros(entries.live.shape, dtype=torch.long, device=entries.live.device)
