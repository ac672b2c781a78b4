"""How a layer's memory is read: units, what stands for them, who chooses, what becomes of the rest.

Knows parts by their protocols only; any of them composes with any other.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import attend, units
from keyvalise.types.data import Entries, Env, Partial, Queries
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.quantity import Amount, Share
from keyvalise.types.retrieve import (
    STALE,
    Adapting,
    Asking,
    Cut,
    Grouping,
    Memo,
    Place,
    Reading,
    Reads,
    Residual,
    Searching,
    Sifting,
    Summary,
    Table,
    Trigger,
    Unit,
)

DEFAULTS = {
    "summary": "centroid",
    "query": "now",
    "group": "vote",
    "trigger": "always",
    "residual": "leave",
    "place": "here",
}
"""What a reader does in rooms that it does not name."""

EDGE_BYTES = 4
"""Where a unit ends, and the ordinal of an entry that has left its order."""


@dataclass(frozen=True)
class Reader:
    """One part of every room of reading; a `types.retrieve.Retrieve`."""

    unit: Unit
    summary: Summary
    query: Asking
    group: Grouping
    trigger: Trigger
    read: Reading
    residual: Residual
    place: Place

    @property
    def parts(self) -> tuple[Any, ...]:
        """All parts in river order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @property
    def observers(self) -> tuple[Observer, ...]:
        """What its parts want remembered, equal ones once."""
        parts = (self.unit, self.summary, self.query, self.trigger)
        return tuple(dict.fromkeys(observer for part in parts for observer in part.observers))

    @functools.cached_property
    def sifting(self) -> Sifting | None:
        return self.read if isinstance(self.read, Sifting) else None

    @functools.cached_property
    def _searching(self) -> Searching | None:
        return self.summary if isinstance(self.summary, Searching) else None

    @functools.cached_property
    def _adapting(self) -> Adapting | None:
        return self.read if isinstance(self.read, Adapting) else None

    @property
    def joins(self) -> bool:
        return self._searching is None

    @property
    def reads_all(self) -> bool:
        return self.read.amount == Share(100.0)

    @property
    def _looked_at(self) -> Amount:
        """Entries of the units that are chosen."""
        return self.read.amount if self.sifting is None else self.sifting.within

    def bytes_per_entry(self, geometry: Geometry) -> float:
        """The most that an entry costs beside itself, in a unit or before it is in one."""
        per_unit = self.summary.unit_bytes(geometry) + self.residual.unit_bytes(geometry) + EDGE_BYTES
        within = per_unit / self.unit.length + (0 if self.unit.keeps_order else EDGE_BYTES)
        columns = {name for observer in self.observers for name in observer.columns}
        return max(within, EDGE_BYTES * len(columns))

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return self.unit.cut(env, entries)

    def summaries(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        return self.summary.build(env, cut) | self.residual.build(env, cut)

    def search(self, env: Env, tables: Sequence[Table], queries: Queries, memo: Memo) -> tuple[Reads, Memo]:
        due, known, stale = self.trigger.due(env, queries), memo.get("exact"), memo.get(STALE)
        due = due if stale is None else due | stale
        if known is not None and not bool(due.any()):
            return _reads(memo), memo
        asked = self.query.query(env, queries)
        if self._searching is not None:
            found = {"exact": self._searched(env, tables, asked)}
        else:
            found = self._ranked(env, tables, queries, asked, memo)
        if known is not None and not bool(due.all()):
            found = {name: _kept(memo[name], new, due) for name, new in found.items()}
        return _reads(found), found

    def _ranked(
        self, env: Env, tables: Sequence[Table], queries: Queries, asked: Tensor, memo: Memo
    ) -> dict[str, Tensor]:
        """All units are asked, then shared out."""
        logits = _beside([self.summary.score(env, table, asked) for table in tables])
        held = _beside([table.sizes for table in tables])
        ranking = self.group.ranking(env, logits, held)
        sizes = units.of_heads(held, ranking.shape[1])
        amounts = [units.amounts(self._looked_at, sizes)]
        amounts += [units.amounts(self.residual.amount, sizes)] if self.residual.amount else []
        told: dict[str, Tensor] = {}
        if self._adapting is not None:
            amounts[0], told = self._adapting.amounts(logits, held, amounts[0], memo)
        if (ready := self.query.is_ready(env, queries)) is not None:
            amounts[0] = torch.where(ready[:, None], amounts[0], sizes.sum(-1))
        chosen = zip(("exact", "estimate"), units.within(ranking, sizes, *amounts), strict=False)
        return {**dict(chosen), **told}

    def _searched(self, env: Env, tables: Sequence[Table], asked: Tensor) -> Tensor:
        """The best of what every table finds, one entry each."""
        assert self._searching is not None
        sizes = units.of_heads(torch.cat([table.sizes for table in tables], -1), asked.shape[1])
        amounts, first = units.amounts(self._looked_at, sizes).clamp(min=1), 0
        n, found = int(amounts.max()), []
        for table in tables:
            mine, logits = self._searching.search(env, table, asked, n)
            found.append((torch.where(mine < 0, -1, mine + first), logits))
            first += table.sizes.shape[-1]
        chosen, logits = (torch.cat(both, -1) for both in zip(*found, strict=True))
        order = logits.sort(dim=-1, descending=True, stable=True).indices[..., :n]
        rank = torch.arange(order.shape[-1], device=order.device)
        return chosen.gather(-1, order).masked_fill(rank >= amounts[..., None], -1)

    def guess(self, env: Env, tables: Sequence[Table], chosen: Tensor, queries: Queries) -> Partial:
        parts, answers = units.of_tables(chosen, [table.sizes.shape[-1] for table in tables]), []
        for table, own in zip(tables, parts, strict=True):
            own = units.owned(own, table.sizes) if own.shape[-1] else own
            answers.append(self.residual.answer(env, table.summaries, own, queries))
        return Partial(*attend.merge_all([(answer.out, answer.lse) for answer in answers]))


def _beside(tables: Sequence[Tensor]) -> Tensor:
    """What is known of all units; mostly there is one table, and nothing to copy."""
    return tables[0] if len(tables) == 1 else torch.cat([*tables], -1)


def _reads(found: Memo) -> Reads:
    return Reads(found["exact"], found.get("estimate"))


def _kept(old: Tensor, new: Tensor, due: Tensor) -> Tensor:
    """The old choice in rows that are not due; both [B, A, n], with −1 behind the shorter."""
    width = max(old.shape[-1], new.shape[-1])
    old, new = (torch.nn.functional.pad(x, (0, width - x.shape[-1]), value=-1) for x in (old, new))
    return torch.where(due[:, None, None], new, old)
