"""The raw tail: entries in a growing buffer, the same number in every head; the only place with causality.

Its first `n_head` entries may differ between heads (what a stage kept); all later ones are a run of ordinals.
Slots behind a row's length are unwritten where all rows are equally long, and zeros where they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat, slots
from keyvalise.store.arena import Arena, slack
from keyvalise.store.places import Places
from keyvalise.types.data import Entries, Partial, Queries, Stretch
from keyvalise.types.segment import Angle, Named


@dataclass(frozen=True)
class Tail:
    """A value: appending writes behind `lengths` of an arena that older values share.

    lengths     entries per row;  starts: ordinal of a row's first entry after the `n_head` kept ones
    head        where the kept ones stand, n_head in each of H heads or in one for all;  logw float32
                [B, H, n_head] or None
    """

    arena: Arena
    lengths_: tuple[int, ...]
    starts: tuple[int, ...]
    head: Places | None = None
    logw: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    angle: Angle = "absolute"
    version: int = 0

    kind: ClassVar[str] = "tail"
    frozen: ClassVar[bool] = False

    @property
    def n_head(self) -> int:
        return 0 if self.head is None else self.head.counts[0]

    @property
    def longest(self) -> int:
        return max(self.lengths_)

    @property
    def is_even(self) -> bool:
        """Whether all rows are equally long."""
        return min(self.lengths_) == max(self.lengths_)

    @property
    def is_simple(self) -> bool:
        """Whether `step` may serve it: rows equally long, nothing weighted, keys read where they stand."""
        return self.is_even and self.logw is None and self.angle == "absolute"

    @property
    def n_heads(self) -> int:
        return self.arena.keys.shape[1]

    @property
    def keys(self) -> Tensor:
        return self.arena.keys.narrow(2, 0, self.longest)

    @property
    def values(self) -> Tensor:
        return self.arena.values.narrow(2, 0, self.longest)

    @property
    def lengths(self) -> Tensor:
        device, shape = self.arena.keys.device, (len(self.lengths_), self.n_heads)
        if self.is_even:
            return torch.full(shape, self.longest, dtype=torch.int32, device=device)
        rows = torch.tensor(self.lengths_, dtype=torch.int32, device=device)
        return rows[:, None].expand(shape)

    @staticmethod
    def start(k: Tensor, v: Tensor, stretch: Stretch, dtype: torch.dtype, angle: Angle) -> Tail:
        """An empty tail for rows shaped like k and v, with room for the stretch."""
        n_rows, n_heads = k.shape[:2]
        needed = max(stretch.counts)
        shape = (n_rows, n_heads, needed + slack(needed))
        arena = Arena.of(shape, (k.shape[3], v.shape[3]), dtype, k.device)
        return Tail(arena, (0,) * n_rows, stretch.starts, angle=angle)

    def append(self, k: Tensor, v: Tensor, stretch: Stretch) -> Tail:
        """The same tail with the real tokens of a stretch behind it; k [B, H, S, D], v [B, H, S, Dv]."""
        lengths = tuple(a + b for a, b in zip(self.lengths_, stretch.counts, strict=True))
        arena, needed = self.arena, max(lengths)
        if arena.version != self.version or arena.capacity < needed:
            arena = arena.grown(self.longest, needed)
        if self.is_even and stretch.is_plain:
            arena.keys[:, :, self.longest : needed] = k
            arena.values[:, :, self.longest : needed] = v
        else:
            self._append_rows(arena, k, v, stretch)
        arena.version += 1
        starts = stretch.starts if self.longest == self.n_head else self.starts
        return replace(self, arena=arena, lengths_=lengths, starts=starts, version=arena.version)

    def step(self, k: Tensor, v: Tensor, clock: tuple[int, ...]) -> Tail:
        """`append` of one token per row to an even tail; k [B, H, 1, D], v [B, H, 1, Dv]."""
        n, arena = self.lengths_[0], self.arena
        if arena.version != self.version or arena.capacity <= n:
            arena = arena.grown(n, n + 1)
        arena.keys.narrow(2, n, 1).copy_(k)
        arena.values.narrow(2, n, 1).copy_(v)
        arena.version += 1
        starts = clock if n == self.n_head else self.starts
        lengths = (n + 1,) * len(clock)
        return Tail(arena, lengths, starts, self.head, self.logw, self.columns, self.angle, arena.version)

    def _append_rows(self, arena: Arena, k: Tensor, v: Tensor, stretch: Stretch) -> None:
        longest = max(a + b for a, b in zip(self.lengths_, stretch.counts, strict=True))
        for row, (begin, lead, n) in enumerate(
            zip(self.lengths_, stretch.leads, stretch.counts, strict=True)
        ):
            for buffer, new in ((arena.keys, k), (arena.values, v)):
                buffer[row, :, begin : begin + n] = new[row, :, lead : lead + n]
                buffer[row, :, begin + n : longest] = 0

    def attend(self, queries: Queries) -> tuple[Partial, Tail]:
        """Causal among the latest piece's own entries, full on everything before."""
        q, k = self._turned(queries)
        options: dict[str, Any] = {"scale": queries.scale, "softcap": queries.softcap}
        if self.is_even and queries.stretch.is_plain and self.logw is None:
            return Partial(*attend.causal(q, k, self.values, **options)), self
        if q.shape[2] == 1 and queries.stretch.is_plain:
            return Partial(*attend.dense(q, k, self.values, bias=self.bias(), **options)), self
        return self._attend_rows(q, k, queries), self

    def _attend_rows(self, q: Tensor, k: Tensor, queries: Queries) -> Partial:
        """Row by row: without padding there is nothing to mask but the future."""
        out, lse = attend.empty(q, self.arena.values.shape[3])
        options: dict[str, Any] = {"scale": queries.scale, "softcap": queries.softcap}
        stretch = queries.stretch
        for row, (lead, n, length) in enumerate(
            zip(stretch.leads, stretch.counts, self.lengths_, strict=True)
        ):
            if n == 0:
                continue
            own = (slice(row, row + 1), slice(None), slice(lead, lead + n))
            rows = slice(row, row + 1)
            past = length - n if self.logw is not None else 0
            part = attend.causal(
                q[own], k[rows, :, past:length], self.values[rows, :, past:length], **options
            )
            if past:
                bias = self._weights()[rows, :, None, :past]
                before = attend.dense(
                    q[own], k[rows, :, :past], self.values[rows, :, :past], bias=bias, **options
                )
                part = attend.merge(before, part)
            out[row, :, lead : lead + n], lse[row, :, lead : lead + n] = part[0][0], part[1][0]
        return Partial(out, lse)

    def _weights(self) -> Tensor:
        """Log-weights of all entries, float32 [B, H, T]."""
        width = self.longest - self.n_head
        zeros = torch.zeros((*self.arena.keys.shape[:2], width), device=self.arena.keys.device)
        return zeros if self.logw is None else torch.cat([self.logw, zeros], -1)

    def bias(self) -> Tensor:
        """Log-weights, and −inf behind every row's length; [B, H | 1, 1, T]."""
        device = self.arena.keys.device
        dead = (
            torch.arange(self.longest, device=device) >= torch.tensor(self.lengths_, device=device)[:, None]
        )
        bias = torch.zeros(dead.shape, device=device).masked_fill(dead, float("-inf"))[:, None, None]
        return bias if self.logw is None else bias + self._weights()[:, :, None]

    def _turned(self, queries: Queries) -> tuple[Tensor, Tensor]:
        """Queries and keys as they are read: kept entries at their slots, the run like the queries."""
        q = slots.turned_queries(queries)
        if queries.slot_shift is None:
            return q, self.keys
        ordinals = self._ordinals()
        slot = torch.arange(self.longest, device=ordinals.device)
        run = torch.tensor(queries.slot_shift, device=ordinals.device)[:, None, None]
        shift = torch.where(slot < self.n_head, slot - ordinals, run.expand_as(ordinals))
        return q, slots.turned_keys(self.keys, shift, queries)

    def _ordinals(self) -> Tensor:
        """int32 [B, H, T], running on behind the rows' ends."""
        device = self.arena.keys.device
        first, n = min(self.starts), self.longest - self.n_head
        run = torch.arange(first, first + n, dtype=torch.int32, device=device)[None, None]
        if len(set(self.starts)) > 1:
            run = run + torch.tensor(self.starts, dtype=torch.int32, device=device)[:, None, None] - first
        rows = run.expand(len(self.starts), self.n_heads, -1)
        if self.head is None:
            return rows
        head = self.head.all().view(*self.head.shape, self.n_head)
        return torch.cat([head.expand(-1, self.n_heads, -1), rows], -1)

    def entries(self) -> Entries:
        live, ordinals = self._live(), self._ordinals()
        return Entries(
            self.lengths,
            live,
            ordinals if self.is_even else ordinals.masked_fill(~live, -1),
            None if self.logw is None else self._weights(),
            {name: self._padded(column) for name, column in self.columns.items()},
            lambda: self.keys,
            lambda: self.values,
        )

    def _live(self) -> Tensor:
        """bool [B, H, T]: the slots before every row's length."""
        device = self.arena.keys.device
        if self.is_even:
            shape = (len(self.lengths_), self.n_heads, self.longest)
            return torch.ones(shape, dtype=torch.bool, device=device)
        return torch.arange(self.longest, device=device) < self.lengths[..., None]

    def _padded(self, column: Tensor) -> Tensor:
        """A column that was written before the latest entries came, zeros for them."""
        return torch.nn.functional.pad(column, (0, self.longest - column.shape[-1]))

    def flat(self, keep: Tensor) -> flat.Flat:
        """The entries where keep [B, H, T] is true."""
        counts, at = tuple(keep.sum(-1).flatten().tolist()), keep.nonzero(as_tuple=True)
        return flat.Flat(
            (keep.shape[0], keep.shape[1]),
            counts,
            self.keys[at],
            self.values[at],
            self._ordinals()[at],
            None if self.logw is None else self._weights()[at],
            {name: self._padded(column)[at] for name, column in self.columns.items()},
        )

    def with_columns(self, columns: Mapping[str, Tensor]) -> Tail:
        if self.is_even:
            return replace(self, columns=dict(columns))
        # Later entries begin with zero, whatever stands in the slots that they will fill.
        dead = ~self._live()
        return replace(self, columns={name: column.masked_fill(dead, 0) for name, column in columns.items()})

    def rows(self, index: Tensor) -> Tail:
        order = index.tolist()
        keys, values = self.keys[index], self.values[index]
        return replace(
            self,
            arena=Arena(keys, values),
            lengths_=tuple(self.lengths_[i] for i in order),
            starts=tuple(self.starts[i] for i in order),
            head=None if self.head is None else self.head.rows(order),
            logw=None if self.logw is None else self.logw[index],
            columns={name: column[index] for name, column in self.columns.items()},
            version=0,
        )

    def reclaimed(self) -> Tail:
        """The same value, allowed to overwrite what a newer, abandoned value wrote behind it."""
        return replace(self, version=self.arena.version)

    def fitted(self) -> Tail:
        """The same entries in a buffer without slack."""
        if self.arena.capacity == self.longest:
            return self
        return replace(self, arena=Arena(self.keys.clone(), self.values.clone()), version=0)

    def tensors(self) -> Iterable[Named]:
        yield "keys", self.arena.keys.device.type, self.arena.keys
        yield "values", self.arena.values.device.type, self.arena.values
        if self.head is not None:
            yield from self.head.tensors()
        if self.logw is not None:
            yield "logw", self.logw.device.type, self.logw
        for column in self.columns.values():
            yield "columns", column.device.type, column
