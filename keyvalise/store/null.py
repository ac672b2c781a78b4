"""A null segment: entries that take attention and give nothing, such as learned sink logits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.types.data import Partial, Queries
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Null:
    """logits float [Hq], a parameter of the model: read here, counted with the model."""

    logits: Tensor
    value_dim: int

    kind: ClassVar[str] = "null"
    frozen: ClassVar[bool] = True

    def attend(self, queries: Queries) -> tuple[Partial, Null]:
        q = queries.q
        out = torch.zeros((*q.shape[:3], self.value_dim), device=q.device)
        lse = self.logits.detach().float().view(1, -1, 1).expand(q.shape[:3])
        return Partial(out, lse), self

    def rows(self, index: Tensor) -> Null:
        return self

    def tensors(self) -> Iterable[Named]:
        return ()
