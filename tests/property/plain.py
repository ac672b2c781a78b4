"""What a layer's memory must hold, in plain lists: the model that the store is compared with.

Every operation of the store has its namesake here, written one entry at a time, without masks or segments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.store.coded import Coded
from keyvalise.store.roll import Roll, writable
from keyvalise.types.data import Choice, Env, Memory, Partial, Sketch, Stretch
from keyvalise.types.geometry import Geometry
from tests.support import coding
from tests.support.compare import assert_same

NAMES = ("mass", "age")
"""Columns that entries may have."""

groups = itertools.count()
"""Numbers for the groups that codes were written in, never used twice."""


@dataclass(frozen=True)
class Entry:
    """One token of one kv head; `group` is the one it was coded in, None: it is raw."""

    ordinal: int
    key: Tensor
    value: Tensor
    logw: float = 0.0
    columns: Mapping[str, float] = field(default_factory=dict)
    group: int | None = None


Cell = tuple[Entry, ...]


@dataclass(frozen=True)
class Plain:
    """cells    [row][kv head] → entries, ascending by ordinal;  stats: one number per row
    sketch   [row][kv head] → what is read beside them and never judged
    """

    cells: tuple[tuple[Cell, ...], ...]
    clock: tuple[int, ...]
    prompt: tuple[int, ...]
    stats: tuple[float, ...]
    sketch: tuple[tuple[Cell, ...], ...]

    @staticmethod
    def born(n_rows: int, n_heads: int) -> Plain:
        zeros, nothing = (0,) * n_rows, (((),) * n_heads,) * n_rows
        return Plain(nothing, zeros, zeros, (0.0,) * n_rows, nothing)

    @property
    def flat(self) -> list[Cell]:
        return [cell for row in self.cells for cell in row]

    def each(self, change: Callable[[int, int, Cell], Sequence[Entry]]) -> Plain:
        """The same with every cell replaced; `change` is told row and head."""
        cells = tuple(
            tuple(tuple(change(b, h, cell)) for h, cell in enumerate(row)) for b, row in enumerate(self.cells)
        )
        return replace(self, cells=cells)

    def append(self, k: Tensor, v: Tensor, stretch: Stretch, dtype: torch.dtype) -> Plain:
        def grown(b: int, h: int, cell: Cell) -> list[Entry]:
            columns = range(stretch.leads[b], stretch.leads[b] + stretch.counts[b])
            new = [
                Entry(self.clock[b] + i, k[b, h, column].to(dtype), v[b, h, column].to(dtype))
                for i, column in enumerate(columns)
            ]
            return [*cell, *new]

        clock = tuple(seen + n for seen, n in zip(self.clock, stretch.counts, strict=True))
        return replace(self.each(grown), clock=clock)

    def keep(self, choice: Choice, rows: Sequence[bool]) -> Plain:
        """In these rows only the chosen entries, each weighing more and rewritten as the choice says."""

        def kept(b: int, h: int, cell: Cell) -> Sequence[Entry]:
            if not rows[b]:
                return cell
            return [_chosen(choice, (b, h, i), entry) for i, entry in enumerate(cell) if choice.keep[b, h, i]]

        return self.each(kept)

    def remember(self, sketch: Sketch, rows: Sequence[bool]) -> Plain:
        """This sketch in these rows; −inf weighs nothing."""
        new = [
            [
                tuple(
                    Entry(-1, key, value, float(w))
                    for key, value, w in zip(
                        sketch.keys[b, h], sketch.values[b, h], sketch.logw[b, h], strict=True
                    )
                )
                for h in range(len(row))
            ]
            for b, row in enumerate(self.cells)
        ]
        return replace(
            self,
            sketch=tuple(tuple(a) if mine else b for mine, a, b in zip(rows, new, self.sketch, strict=True)),
        )

    def crop(self, n: int) -> Plain:
        clock = tuple(max(seen - n, 0) for seen in self.clock)
        prompt = tuple(map(min, self.prompt, clock))
        stays = self.each(lambda b, h, cell: [e for e in cell if e.ordinal < clock[b]])
        return replace(stays, clock=clock, prompt=prompt)

    def rows(self, order: Sequence[int]) -> Plain:
        def picked(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[i] for i in order)

        return Plain(
            picked(self.cells),
            picked(self.clock),
            picked(self.prompt),
            picked(self.stats),
            picked(self.sketch),
        )

    def with_columns(self, columns: Mapping[str, Tensor]) -> Plain:
        """Exactly these columns [B, H, T]."""
        return self.each(
            lambda b, h, cell: [
                replace(entry, columns={name: float(column[b, h, i]) for name, column in columns.items()})
                for i, entry in enumerate(cell)
            ]
        )

    def code(self, codec: Any, env: Env, leaving: Sequence[Sequence[int]]) -> Plain:
        """The oldest leaving[row][head] raw entries of every head in code, group by group."""

        def coded(b: int, h: int, cell: Cell) -> list[Entry]:
            begin = sum(entry.group is not None for entry in cell)
            end = begin + leaving[b][h]
            found = list(cell)
            for first in range(begin, end, codec.group):
                found[first : first + codec.group] = _group(codec, env, cell[first : first + codec.group])
            return found

        return self.each(coded)

    def raw(self) -> list[list[int]]:
        """Raw entries per row and head."""
        return [[sum(entry.group is None for entry in cell) for cell in row] for row in self.cells]

    def live_groups(self) -> list[int]:
        """Groups with a living entry in every row, per head, rounded up."""
        found = [{e.group for cell in row for e in cell if e.group is not None} for row in self.cells]
        return [math.ceil(len(ids) / len(row)) for ids, row in zip(found, self.cells, strict=True)]

    def attend(self, q: Tensor, stretch: Stretch, geometry: Geometry, sinks: Tensor | None) -> Partial:
        """Softmax in float64 for every real query over what it sees; NaN for padding."""
        out = torch.full((*q.shape[:3], geometry.value_dim), math.nan, dtype=torch.float64)
        lse = torch.full(q.shape[:3], math.nan, dtype=torch.float64)
        for b, row in enumerate(self.cells):
            real = slice(stretch.leads[b], stretch.leads[b] + stretch.counts[b])
            numbers = torch.arange(stretch.counts[b])[:, None] + stretch.starts[b]
            for head in range(q.shape[1]):
                own = None if sinks is None else sinks[head]
                cell = self.sketch[b][head // geometry.group] + row[head // geometry.group]
                answer = _softmax(q[b, head, real], numbers, cell, geometry, own)
                out[b, head, real], lse[b, head, real] = answer
        return Partial(out, lse)


def _chosen(choice: Choice, place: tuple[int, int, int], entry: Entry) -> Entry:
    add = 0.0 if choice.add_logw is None else float(choice.add_logw[place])
    entry = replace(entry, logw=entry.logw + add)
    if entry.group is not None:
        return entry
    key = entry.key if choice.keys is None else choice.keys[place].to(entry.key.dtype)
    value = entry.value if choice.values is None else choice.values[place].to(entry.value.dtype)
    return replace(entry, key=key, value=value)


def _group(codec: Any, env: Env, run: Sequence[Entry]) -> list[Entry]:
    codes = coding.encode(codec, env, stack([e.key for e in run]), stack([e.value for e in run]))
    decoded = zip(run, *coding.decode(codec, env, codes, env.geometry.dtype), strict=True)
    number = next(groups)
    return [replace(entry, key=key, value=value, group=number) for entry, key, value in decoded]


def _softmax(
    q: Tensor, numbers: Tensor, cell: Cell, geometry: Geometry, sink: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Queries [S, D] with ordinals [S, 1] over one cell."""
    keys = torch.stack([e.key for e in cell]).double() if cell else q.new_zeros(0, q.shape[1]).double()
    values = (
        torch.stack([e.value for e in cell]).double() if cell else torch.zeros(0, geometry.value_dim).double()
    )
    logits = geometry.scale * q.double() @ keys.T
    if geometry.softcap is not None:
        logits = geometry.softcap * (logits / geometry.softcap).tanh()
    logits = logits + torch.tensor([e.logw for e in cell], dtype=torch.float64)
    ordinals = torch.tensor([e.ordinal for e in cell], dtype=torch.long)
    logits = logits.masked_fill(ordinals > numbers, -math.inf)
    if sink is not None:
        logits = torch.cat([logits, sink.double().expand(len(q), 1)], 1)
        values = torch.cat([values, values.new_zeros(1, geometry.value_dim)])
    lse = logits.logsumexp(-1)
    return (logits - lse.nan_to_num(neginf=0.0)[:, None]).exp() @ values, lse


def stack(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors))


def raw_counts(memory: Memory, n_rows: int, n_heads: int) -> list[list[int]]:
    """Entries per row and head that lie in no code."""
    raw = [s.lengths for s in writable(memory) if not isinstance(s, Coded)]
    return sum(raw, torch.zeros(n_rows, n_heads, dtype=torch.int32)).tolist()


def check(memory: Memory, plain: Plain) -> None:
    """The memory holds exactly the entries of the plain lists, bit by bit."""
    assert (memory.clock, memory.prompt) == (plain.clock, plain.prompt)
    assert memory.stats["n"].tolist() == list(plain.stats)
    if not writable(memory):
        assert not any(plain.flat)
        return
    entries = Roll.of(memory).entries
    assert entries.lengths.flatten().tolist() == [len(cell) for cell in plain.flat]
    assert torch.equal(entries.live, torch.arange(entries.live.shape[-1]) < entries.lengths[..., None])
    assert (entries.ordinals[~entries.live] == -1).all()
    held: Sequence[Any] = [entry for cell in plain.flat for entry in cell]
    assert entries.ordinals[entries.live].tolist() == [entry.ordinal for entry in held]
    logw = torch.zeros(entries.live.shape) if entries.logw is None else entries.logw
    assert logw[entries.live].tolist() == [entry.logw for entry in held]
    for name in NAMES:
        column = entries.column(name)[entries.live]
        assert column.tolist() == [entry.columns.get(name, 0.0) for entry in held], name
    for got, what in ((entries.keys(), "key"), (entries.values(), "value")):
        want = [getattr(entry, what) for entry in held]
        assert_same(got[entries.live], torch.stack(want) if want else got[entries.live], what=f"{what}s")
        assert got.isfinite().all(), f"dead {what}s show"
