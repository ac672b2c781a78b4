"""Tokens: every entry is read by itself."""

from __future__ import annotations

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
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()
    keeps_order: ClassVar[bool] = True
    length: ClassVar[float] = 1.0

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return torch.arange(entries.live.shape[-1], device=entries.live.device).expand(entries.live.shape)
