"""What an act remembers of the losers, as a segment: read by every query, judged by nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.types.data import Partial, Queries, Sketch
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Sketched:
    """The sketch of the act that bears this name."""

    sketch: Sketch
    act: str

    kind: ClassVar[str] = "sketch"
    frozen: ClassVar[bool] = True

    @staticmethod
    def of(sketch: Sketch, before: Sketch | None, rows: tuple[bool, ...], act: str) -> Sketched:
        """The new sketch in these rows; in the others what stood there before."""
        if not all(rows):
            mine = torch.tensor(rows, device=sketch.logw.device)[:, None, None]
            if before is None:
                sketch = replace(sketch, logw=sketch.logw.masked_fill(~mine, float("-inf")))
            else:
                sketch = Sketch(
                    torch.where(mine[..., None], sketch.keys, before.keys),
                    torch.where(mine[..., None], sketch.values, before.values),
                    torch.where(mine, sketch.logw, before.logw),
                )
        return Sketched(sketch, act)

    def attend(self, queries: Queries) -> tuple[Partial, Sketched]:
        held = self.sketch
        out, lse = attend.dense(
            queries.q,
            held.keys,
            held.values,
            scale=queries.scale,
            softcap=queries.softcap,
            bias=held.logw[:, :, None],
        )
        # A head of which nothing is remembered answers nothing.
        return Partial(torch.where(lse[..., None] > float("-inf"), out, 0.0), lse), self

    def rows(self, index: Tensor) -> Sketched:
        held = self.sketch
        return Sketched(Sketch(held.keys[index], held.values[index], held.logw[index]), self.act)

    def tensors(self) -> Iterable[Named]:
        tier = self.sketch.logw.device.type
        yield "keys", tier, self.sketch.keys
        yield "values", tier, self.sketch.values
        yield "logw", tier, self.sketch.logw
