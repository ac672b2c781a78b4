"""Every query head reads what it wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.types.data import Env


@dataclass(frozen=True, slots=True)
class EachGroup:
    """Query heads choose for themselves, from the units of their kv head.

    Shapes     logits [B, Hq, U], sizes int [B, H, U] → [B, Hq, U]
    Formula    r = logit
    Cost       what several heads of a group choose is read as often
    Scope      per query head
    Paper      Tang et al. 2024, arXiv 2406.10774; Liu et al. 2024, arXiv 2409.10516    Confidence  official
               code
    """

    name: ClassVar[str] = "each"
    room: ClassVar[str] = "group"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def ranking(self, env: Env, logits: Tensor, sizes: Tensor) -> Tensor:
        return logits


@dataclass(frozen=True, slots=True)
class PeakGroup:
    """A kv head reads what any of its query heads wants most.

    Shapes     logits [B, Hq, U], sizes int [B, H, U] → [B, H, U]
    Formula    r_hu = max_g logit_gu
    Cost       U·G time per kv head
    Scope      per kv head
    Reduces to each for one query head per kv head
    Differs    ours, for bounds: the largest of several bounds is one
    """

    name: ClassVar[str] = "peak"
    room: ClassVar[str] = "group"
    needs: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def ranking(self, env: Env, logits: Tensor, sizes: Tensor) -> Tensor:
        most: Tensor = logits.unflatten(1, (sizes.shape[1], -1)).amax(2)
        return most
