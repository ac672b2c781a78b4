"""Pages: entries that follow one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class PagesUnit:
    """n entries of a head that follow one another, from the first that is in no unit yet.

    Shapes     → int64 [B, H, T]
    Formula    u_t = ⌊t/n⌋ for the t-th entry of a block
    Cost       nothing is stored beside the edges; entries stay in their order
    Phase      a block is cut when it is complete, and never again
    Scope      per kv head
    Reduces to tokens for n = 1
    Differs    entries are counted, not positions: where tokens were dropped, a page reaches further
    Paper      Tang et al. 2024, arXiv 2406.10774           Confidence  official code
    """

    n: int = arg(16, low=1, doc="entries of a page")

    name: ClassVar[str] = "pages"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike"})
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()
    keeps_order: ClassVar[bool] = True

    @property
    def length(self) -> float:
        return float(self.n)

    def cut(self, env: Env, entries: Entries) -> Tensor:
        places = torch.arange(entries.live.shape[-1], device=entries.live.device) // self.n
        return places.expand(entries.live.shape)
