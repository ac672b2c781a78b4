"""A run of entries whose numbers lie in a slow tier; what says which entries they are stays near.

Reads are counted. What is read of few units may be kept for the next step; what is read whole comes head by
head, the next one while the present one is attended, the first of a layer while the layer before is.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.store.spill import DiskSpill, HostSpill, Spill, packed
from keyvalise.types.data import Entries, Partial, Queries
from keyvalise.types.quantity import count
from keyvalise.types.retrieve import Place
from keyvalise.types.segment import Named
from keyvalise.types.slow import Slow

READ_BYTES = 16 * 2**20
"""Most bytes that a read of everything brings at once."""


@dataclass
class Hot:
    """The latest units read, up to `most` bytes, and what is being read; never changes an answer."""

    most: int
    n_bytes: int = 0
    known: OrderedDict[int, Tensor] = field(default_factory=OrderedDict)
    coming: futures.Future[Tensor] | None = None

    def get(self, start: int, n: int) -> Tensor | None:
        found = self.known.get(start)
        if found is None or len(found) != n:
            return None
        self.known.move_to_end(start)
        return found

    def put(self, start: int, rows: Tensor) -> None:
        if rows.numel() > self.most or start in self.known:
            return
        self.known[start] = rows
        self.n_bytes += rows.numel()
        while self.n_bytes > self.most:
            _, old = self.known.popitem(last=False)
            self.n_bytes -= old.numel()


@dataclass(frozen=True)
class Stowed:
    """like   the run with no rows in its tensors of entries;  spill: these rows;  hot: those read lately"""

    like: Ragged | Coded
    spill: Spill
    place: Place
    hot: Hot

    kind: ClassVar[str] = "stowed"
    frozen: ClassVar[bool] = False

    @staticmethod
    def of(run: Ragged | Coded, place: Place, slow: Slow) -> Stowed:
        """Move a run.

        Raises   NoRoom or TierLost
        """
        content = rows_of(run)
        rows = packed(content.values())
        spill: Spill = DiskSpill.of(rows, slow) if place.tier == "disk" else HostSpill.of(rows, slow)
        like = with_rows(run, {name: x[:0].clone() for name, x in content.items()})
        return Stowed(like, spill, place, Hot(count(place.cache, run.bounds[-1]) * spill.width))

    @property
    def shape(self) -> tuple[int, int]:
        return self.like.shape

    @property
    def counts(self) -> tuple[int, ...]:
        return self.like.counts

    @property
    def bounds(self) -> tuple[int, ...]:
        return self.like.bounds

    @property
    def places(self) -> Places:
        return self.like.places

    @property
    def columns(self) -> Mapping[str, Tensor]:
        return self.like.columns

    def loaded(self) -> Ragged | Coded:
        """The run itself."""
        return with_rows(self.like, self._split(self.spill.read(0, self.bounds[-1])))

    def chosen(self, starts: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """The rows of stretches of entries, one behind the other."""
        found = []
        for start, n in zip(starts.tolist(), sizes.tolist(), strict=True):
            rows = self.hot.get(start, n)
            if rows is None:
                rows = self.spill.read(start, n)
                self.hot.put(start, rows)
            found.append(rows)
        return self._split(torch.cat(found) if found else self.spill.read(0, 0))

    def attend(self, queries: Queries) -> tuple[Partial, Stowed]:
        """All entries answer, head by head: two of them are in memory at most."""
        group = queries.q.shape[1] // self.shape[1]
        out, lse = attend.empty(queries.q, queries.geometry.value_dim)
        for home, run in self._one_by_one():
            row, head = divmod(home, self.shape[1])
            heads = slice(head * group, (head + 1) * group)
            part, own = run.attend(queries)[0], (out[row, heads], lse[row, heads])
            out[row, heads], lse[row, heads] = attend.merge(own, (part.out[row, heads], part.lse[row, heads]))
        return Partial(out, lse), self

    def foresee(self) -> None:
        """Begin to read what a read of everything needs first."""
        pieces = self._pieces()
        if pieces and self.hot.coming is None:
            self.hot.coming = _reader(os.getpid()).submit(self.spill.read, *pieces[0][1:])

    def _pieces(self) -> list[tuple[int, int, int]]:
        """(row·H + head, first entry, how many), at most READ_BYTES each."""
        step = max(1, READ_BYTES // max(1, self.spill.width))
        return [
            (home, begin, min(begin + step, end) - begin)
            for home, (a, end) in enumerate(itertools.pairwise(self.bounds))
            for begin in range(a, end, step)
        ]

    def _one_by_one(self) -> Iterator[tuple[int, Ragged | Coded]]:
        """(row·H + head, entries of it alone), the next being read meanwhile."""
        self.foresee()
        pieces, coming, self.hot.coming = self._pieces(), self.hot.coming, None
        for i, (home, begin, n) in enumerate(pieces):
            assert coming is not None
            rows = coming.result()
            if i + 1 < len(pieces):
                coming = _reader(os.getpid()).submit(self.spill.read, *pieces[i + 1][1:])
            order = torch.arange(begin, begin + n, device=self.places.listed.device)
            counts = tuple(n if other == home else 0 for other in range(len(self.counts)))
            yield home, picked_with(self.like, self._split(rows), order, counts)

    def answer(self, queries: Queries, starts: Tensor, sizes: Tensor, counts: tuple[int, ...]) -> Partial:
        """Stretches of entries answer, as many entries for every (row, head) as counted."""
        order = flat.runs(starts, sizes)
        entry = self.chosen(starts, sizes)
        return picked_with(self.like, entry, order, counts).attend(queries)[0]

    def entries(self) -> Entries:
        return self.loaded().entries()

    def rows(self, index: Tensor) -> Stowed:
        return self.again(self.loaded().rows(index))

    def again(self, run: Ragged | Coded) -> Stowed:
        """Another run in the same tier."""
        return Stowed.of(run, self.place, self.spill.slow)

    def tensors(self) -> Iterable[Named]:
        yield from self.like.tensors()
        yield "entries", self.spill.tier, self.spill.tensor()
        for rows in self.hot.known.values():
            yield "hot", rows.device.type, rows

    def _split(self, rows: Tensor) -> dict[str, Tensor]:
        """The tensors of entries whose rows of bytes these are, where the run's others lie."""
        found, begin, device = {}, 0, self.places.listed.device
        for name, x in rows_of(self.like).items():
            width = x.element_size() * math.prod(x.shape[1:])
            # A copy begins where a number of any size may begin.
            part = rows[:, begin : begin + width].clone(memory_format=torch.contiguous_format).view(x.dtype)
            found[name] = part.view(len(rows), *x.shape[1:]).to(device, non_blocking=True)
            begin += width
        return found


@functools.cache
def _reader(process: int) -> futures.ThreadPoolExecutor:
    """One thread that reads ahead; a forked child gets its own."""
    return futures.ThreadPoolExecutor(1, "keyvalise-read")


def rows_of(run: Ragged | Coded) -> dict[str, Tensor]:
    """The tensors that hold a row for every entry, by name."""
    if isinstance(run, Coded):
        return dict(run.codes.entry)
    return {"keys": run.keys, "values": run.values}


def with_rows(run: Ragged | Coded, entry: Mapping[str, Tensor]) -> Ragged | Coded:
    """The same run with other tensors of entries."""
    if isinstance(run, Coded):
        return replace(run, codes=replace(run.codes, entry=dict(entry)))
    return replace(run, keys=entry["keys"], values=entry["values"])


def picked_with(
    like: Ragged | Coded, entry: Mapping[str, Tensor], order: Tensor, counts: tuple[int, ...]
) -> Ragged | Coded:
    """The entries `order` of a run, whose rows are given."""
    if isinstance(like, Coded):
        return like.picked(order, counts, entry=entry)
    logw = None if like.logw is None else like.logw[order]
    places = Places.of(like.places.all()[order], counts, like.shape)
    return Ragged(entry["keys"], entry["values"], places, logw, {}, flat.bounds_of(counts), like.angle)
