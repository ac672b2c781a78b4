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
    """The sketch of the act that bears this name, of the rows of which anything is remembered.

    sketch   [R, …]: of the R rows that `holds` names, one below the other
    """

    sketch: Sketch
    holds: tuple[bool, ...]
    act: str

    kind: ClassVar[str] = "sketch"
    frozen: ClassVar[bool] = True

    @staticmethod
    def of(sketch: Sketch, before: Sketch | None, rows: tuple[bool, ...], act: str) -> Sketched:
        """The new sketch in these rows; in the others what stood there before. Both are of all rows."""
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
        holds = tuple((sketch.logw > float("-inf")).flatten(1).any(1).tolist())
        return Sketched(sketch if all(holds) else _rows(sketch, _numbers(holds)), holds, act)

    def whole(self) -> Sketch:
        """Of all rows: nothing stands where nothing is remembered."""
        if all(self.holds):
            return self.sketch
        held, n_rows = self.sketch, len(self.holds)
        index = torch.tensor(_numbers(self.holds), dtype=torch.long, device=held.logw.device)
        keys, values = (x.new_zeros((n_rows, *x.shape[1:])) for x in (held.keys, held.values))
        logw = held.logw.new_full((n_rows, *held.logw.shape[1:]), float("-inf"))
        return Sketch(
            keys.index_copy(0, index, held.keys),
            values.index_copy(0, index, held.values),
            logw.index_copy(0, index, held.logw),
        )

    def attend(self, queries: Queries) -> tuple[Partial, Sketched]:
        held = self.whole()
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
        place = {row: i for i, row in enumerate(_numbers(self.holds))}
        order = index.tolist()
        found = [place[row] for row in order if row in place]
        return Sketched(_rows(self.sketch, found), tuple(row in place for row in order), self.act)

    def tensors(self) -> Iterable[Named]:
        tier = self.sketch.logw.device.type
        yield "keys", tier, self.sketch.keys
        yield "values", tier, self.sketch.values
        yield "logw", tier, self.sketch.logw


def _numbers(holds: tuple[bool, ...]) -> list[int]:
    return [row for row, is_held in enumerate(holds) if is_held]


def _rows(sketch: Sketch, rows: list[int]) -> Sketch:
    """Copies of these rows."""
    index = torch.tensor(rows, dtype=torch.long, device=sketch.logw.device)
    return Sketch(sketch.keys[index], sketch.values[index], sketch.logw[index])
