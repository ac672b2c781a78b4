"""One ranking per kv head, or one for the layer, by what the query heads would attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import units
from keyvalise.types.data import Env


@dataclass(frozen=True, slots=True)
class VoteGroup:
    """Every query head shares out one vote over the units; a kv head reads what its group wants most.

    Shapes     logits [B, Hq, U], sizes int [B, H, U] → [B, H, U]
    Formula    r_hu = Σ_g softmax_u(logit_gu), over the units that hold entries; sizes do not count
    Cost       U·G time per kv head
    Scope      per kv head
    Reduces to each for one query head per kv head
    Paper      Chen et al. 2025, arXiv 2505.02922           Confidence  official code
    """

    name: ClassVar[str] = "vote"
    room: ClassVar[str] = "group"
    needs: ClassVar[frozenset[str]] = frozenset({"units:ranked"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def ranking(self, env: Env, logits: Tensor, sizes: Tensor) -> Tensor:
        return units.votes(logits, sizes)


@dataclass(frozen=True, slots=True)
class TogetherGroup:
    """All heads of a layer read the same units: those with most votes.

    Shapes     logits [B, Hq, U], sizes int [B, H, U] → [B, 1, U]
    Formula    r_u = Σ_h r_hu, as `vote` has it
    Cost       U·Hq time
    Needs      units that are the same in all heads
    Scope      layer
    Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
    """

    name: ClassVar[str] = "together"
    room: ClassVar[str] = "group"
    needs: ClassVar[frozenset[str]] = frozenset({"units:alike", "units:ranked", "sets:layer"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    def ranking(self, env: Env, logits: Tensor, sizes: Tensor) -> Tensor:
        return units.votes(logits, sizes).sum(1, keepdim=True)
