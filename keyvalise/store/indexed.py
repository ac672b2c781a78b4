"""Entries of which a query reads few: units in blocks, and what is remembered about reading them.

Knows how to read by a protocol (`types.retrieve.Retrieve`), entries as raw or coded runs. A call of several
queries reads everything.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend, units
from keyvalise.store import carried, runs, sifted
from keyvalise.store.block import Block
from keyvalise.store.coded import Coded
from keyvalise.store.runs import Near, Run
from keyvalise.store.stowed import Stowed
from keyvalise.types.data import Entries, Env, Partial, Queries
from keyvalise.types.retrieve import Memo, Reads, Retrieve, Table
from keyvalise.types.segment import Named
from keyvalise.types.slow import Slow


@dataclass(frozen=True)
class Indexed:
    """Blocks in the order in which they came.

    first    the first tokens, which are in no unit, or None
    columns  [B, H, T] as the compact entries have them
    """

    retrieve: Retrieve
    env: Env
    first: Near | None = None
    blocks: tuple[Block, ...] = ()
    memo: Memo = field(default_factory=dict)
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    kind: ClassVar[str] = "indexed"
    frozen: ClassVar[bool] = False

    @property
    def runs(self) -> list[Run]:
        """All entries, as they lie."""
        return [*([] if self.first is None else [self.first]), *(block.held for block in self.blocks)]

    @property
    def shape(self) -> tuple[int, int]:
        return self.runs[0].shape

    @functools.cached_property
    def counts(self) -> tuple[int, ...]:
        return tuple(sum(own) for own in zip(*(run.counts for run in self.runs), strict=True))

    @property
    def coded(self) -> list[Coded]:
        """The runs in code."""
        near = [run.like if isinstance(run, Stowed) else run for run in self.runs]
        return [run for run in near if isinstance(run, Coded)]

    @property
    def lengths(self) -> Tensor:
        device = self.blocks[0].ends.device
        return torch.tensor(self.counts, dtype=torch.int32, device=device).view(self.shape)

    def grown(self, run: Near, env: Env, stats: Mapping[str, Tensor]) -> Indexed:
        """With later entries, all but the first tokens as another block.

        Blocks are joined so that each is larger than the next: a thousand of them copy an entry ten times.
        Rows that get any choose anew.

        env, stats   what is known of the rows and remembered of their queries when entries become units
        """
        entries = run.entries()
        is_first = entries.live & (entries.ordinals < self.retrieve.read.sinks)
        first = self.first
        if bool(is_first.any()):
            own = runs.taken(run, is_first)
            own = replace(own, columns={})
            first = own if first is None else runs.together([first, own])
            run = runs.taken(run, entries.live & ~is_first)
        blocks = [*self.blocks, Block.of(run, self.retrieve, env, stats)]
        while self.retrieve.joins and len(blocks) > 1 and blocks[-2].longest <= 2 * blocks[-1].longest:
            blocks[-2:] = [blocks[-2].join(blocks[-1])]
        grown = torch.tensor(run.counts, device=is_first.device).view(run.shape).amax(1) > 0
        memo = carried.memo(self.memo, self.blocks, blocks, grown)
        return replace(self, first=first, blocks=tuple(blocks), memo=memo, columns={})

    def placed(self, slow: Slow) -> Indexed:
        """The same, its blocks where the reader wants them."""
        blocks = tuple(
            replace(block, held=runs.placed(runs.near(block.held), self.retrieve.place, slow))
            for block in self.blocks
        )
        return replace(self, blocks=blocks)

    @property
    def tables(self) -> list[Table]:
        """What is known of all units."""
        return [block.table for block in self.blocks]

    def search(self, queries: Queries, tables: Sequence[Table] | None = None) -> tuple[Reads, Memo]:
        """Which units these queries read."""
        tables = self.tables if tables is None else tables
        return self.retrieve.search(self.env, tables, queries, self.memo)

    def attend(self, queries: Queries) -> tuple[Partial, Indexed]:
        if queries.is_prompt or queries.q.shape[2] > 1 or self.retrieve.reads_all:
            return _merged([run.attend(queries)[0] for run in self.runs]), self
        tables = self.tables
        reads, memo = self.search(queries, tables)
        answers = [] if self.first is None else [self.first.attend(queries)[0]]
        parts = units.of_tables(reads.exact, [block.n_units for block in self.blocks])
        if self.retrieve.sifting is not None:
            answers += sifted.read(self.blocks, parts, queries, self.retrieve.read.amount)
        else:
            answers += [block.read(queries, own) for block, own in zip(self.blocks, parts, strict=True)]
        if reads.estimate is not None:
            answers.append(self.retrieve.guess(self.env, tables, reads.estimate, queries))
        return _merged(answers), self if memo is self.memo else replace(self, memo=memo)

    def foresee(self) -> None:
        """Begin to bring near what every step reads."""
        far = next((run for run in self.runs if isinstance(run, Stowed)), None)
        if far is not None and self.retrieve.reads_all:
            far.foresee()

    def opened(self) -> Near:
        """All entries without units, ascending by ordinal in every head."""
        return runs.together([runs.sorted_by_ordinal(runs.near(run)) for run in self.runs])

    def entries(self) -> Entries:
        """Keys and values are fetched when somebody asks."""
        sorted_ = runs.together([runs.sorted_by_ordinal(runs.shadow(run)) for run in self.runs])

        @functools.cache
        def whole() -> Entries:
            return self.opened().entries()

        return replace(
            sorted_.entries(),
            columns=dict(self.columns),
            decode_keys=lambda: whole().keys(),
            decode_values=lambda: whole().values(),
        )

    def with_columns(self, columns: Mapping[str, Tensor]) -> Indexed:
        own = {name for observer in self.retrieve.observers for name in observer.columns}
        return replace(self, columns={name: new for name, new in columns.items() if name not in own})

    def rows(self, index: Tensor) -> Indexed:
        return replace(
            self,
            first=None if self.first is None else self.first.rows(index),
            blocks=tuple(block.rows(index) for block in self.blocks),
            memo={name: tensor[index] for name, tensor in self.memo.items()},
            columns={name: column[index] for name, column in self.columns.items()},
        )

    def tensors(self) -> Iterable[Named]:
        if self.first is not None:
            yield from self.first.tensors()
        for block in self.blocks:
            yield from block.tensors()
        for tensor in self.memo.values():
            yield "index", tensor.device.type, tensor
        for column in self.columns.values():
            yield "columns", column.device.type, column


def _merged(answers: list[Partial]) -> Partial:
    return Partial(*attend.merge_all([(answer.out, answer.lse) for answer in answers]))
