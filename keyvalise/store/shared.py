"""Segments that several rows read: what rows have in common is there once, and is read once for all of them.

A frozen segment over other segments, which may be shared in turn: a tree of beginnings is a shared segment in
a shared segment. Rows that diverge do so in segments of their own, behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.store.ragged import Ragged
from keyvalise.store.sketched import Sketched
from keyvalise.store.tail import Tail
from keyvalise.types.data import Memory, Partial, Queries, Stretch
from keyvalise.types.segment import Named, Segment

LEAST = 128
"""Entries of a head that are worth sharing."""


@dataclass(frozen=True)
class Past:
    """A tail to which nothing is appended any more: every query comes behind all of it."""

    tail: Tail

    kind: ClassVar[str] = "tail"
    frozen: ClassVar[bool] = True

    def attend(self, queries: Queries) -> tuple[Partial, Past]:
        tail = self.tail
        bias = None if tail.is_simple else tail.bias()
        scale, softcap = queries.scale, queries.softcap
        answer = attend.dense(queries.q, tail.keys, tail.values, scale=scale, softcap=softcap, bias=bias)
        return Partial(*answer), self

    def rows(self, index: Tensor) -> Past:
        return Past(self.tail.rows(index))

    def tensors(self) -> Iterable[Named]:
        return self.tail.tensors()


@dataclass(frozen=True)
class Shared:
    """held   segments of R rows;  readers: for every row of the batch, which of them it reads"""

    held: tuple[Segment, ...]
    readers: tuple[int, ...]

    kind: ClassVar[str] = "shared"
    frozen: ClassVar[bool] = True

    def attend(self, queries: Queries) -> tuple[Partial, Shared]:
        """All readers of a row ask together, as if they were one row's queries."""
        n_queries = queries.q.shape[2]
        place, slot = self._places(queries.q.device)
        asked = queries.q[place].transpose(1, 2).flatten(2, 3)
        told = replace(queries, q=asked, stretch=Stretch.whole(asked.shape[2], (0,) * len(place)))
        answers = [segment.attend(told)[0] for segment in self.held]
        out, lse = attend.merge_all([(answer.out, answer.lse) for answer in answers])
        reader = torch.tensor(self.readers, device=out.device)
        out = out.unflatten(2, (-1, n_queries))[reader, :, slot]
        return Partial(out, lse.unflatten(2, (-1, n_queries))[reader, :, slot]), self

    def _places(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The readers of every held row, int64 [R, n], any row where there are fewer; and where every row of
        the batch stands among them, int64 [B].
        """
        of: list[list[int]] = [[] for _ in range(max(self.readers) + 1)]
        slots = []
        for row, reader in enumerate(self.readers):
            slots.append(len(of[reader]))
            of[reader].append(row)
        most = max(map(len, of))
        filled = [rows + [0] * (most - len(rows)) for rows in of]
        return torch.tensor(filled, device=device), torch.tensor(slots, device=device)

    @property
    def longest(self) -> int:
        """Entries of the longest head."""
        return sum(_longest(segment) for segment in self.held)

    def ordinals(self) -> Tensor:
        """int32 [B, H, T] of every row's entries, −1 where there is none."""
        found = [_ordinals(segment) for segment in self.held]
        known = [ordinals for ordinals in found if ordinals is not None]
        return torch.cat(known, -1)[torch.tensor(self.readers, device=known[0].device)]

    def rows(self, index: Tensor) -> Shared:
        readers = [self.readers[row] for row in index.tolist()]
        alive = sorted(set(readers))
        # Rows that nobody reads any more are let go where they are many.
        if 2 * len(alive) > max(self.readers) + 1:
            return replace(self, readers=tuple(readers))
        return Shared(_rows(self.held, alive, index.device), tuple(alive.index(row) for row in readers))

    def tensors(self) -> Iterable[Named]:
        for segment in self.held:
            yield from segment.tensors()


def may_be(memory: Memory) -> bool:
    """Whether rows of a memory can be shared, and hold enough for it to be worth while."""
    own = [segment for segment in memory.segments if segment.kind not in ("null", "shared")]
    is_plain = all(
        isinstance(segment, Coded | Demoted | Sketched)
        or (isinstance(segment, Tail | Ragged) and segment.angle == "absolute")
        for segment in own
    )
    before = sum(segment.longest for segment in memory.segments if isinstance(segment, Shared))
    return is_plain and sum(map(_longest, own)) >= max(LEAST, before)


def share(memory: Memory, index: Tensor) -> Memory:
    """A memory whose row i reads the old row index[i]; nothing is copied but statistics, and rows where some
    are read by nobody.
    """
    rows = index.tolist()
    alive = sorted(set(rows))
    nulls = tuple(segment for segment in memory.segments if segment.kind == "null")
    held = tuple(segment for segment in memory.segments if segment.kind != "null")
    held = tuple(Past(segment) if isinstance(segment, Tail) else segment for segment in held)
    if len(alive) < len(memory.clock):
        held = _rows(held, alive, index.device)
    return Memory(
        (*nulls, Shared(held, tuple(alive.index(row) for row in rows))),
        {name: stat[index] for name, stat in memory.stats.items()},
        tuple(memory.clock[row] for row in rows),
        tuple(memory.prompt[row] for row in rows),
    )


def apart(memory: Memory) -> Memory:
    """The same memory with every row's entries its own."""
    segments: list[Segment] = []
    for segment in memory.segments:
        segments += _alone(segment) if isinstance(segment, Shared) else [segment]
    ordered = sorted(segments, key=lambda segment: not segment.frozen)
    return replace(memory, segments=tuple(ordered))


def _alone(segment: Shared) -> list[Segment]:
    index = torch.tensor(segment.readers)
    found: list[Segment] = []
    for one in segment.held:
        if isinstance(one, Past):
            mine = one.tail.rows(index)
            found.append(Ragged.of(mine.flat(mine.entries().live)))
        elif isinstance(one, Shared):
            found += _alone(one.rows(index))
        else:
            found.append(one.rows(index))  # type: ignore[arg-type]
    return found


def _rows(held: Sequence[Segment], rows: Sequence[int], device: torch.device) -> tuple[Segment, ...]:
    index = torch.tensor(rows, dtype=torch.long, device=device)
    return tuple(segment.rows(index) for segment in held)  # type: ignore[misc]


def _longest(segment: Segment) -> int:
    if isinstance(segment, Past):
        return segment.tail.longest
    if isinstance(segment, Tail | Shared):
        return segment.longest
    return max(segment.counts) if isinstance(segment, Ragged | Coded) else 0


def _ordinals(segment: Segment) -> Tensor | None:
    if isinstance(segment, Past):
        return segment.tail.entries().ordinals
    if isinstance(segment, Shared):
        return segment.ordinals()
    if isinstance(segment, Demoted):
        return segment.held.entries().ordinals
    return segment.entries().ordinals if isinstance(segment, Ragged | Coded) else None
