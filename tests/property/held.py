"""What must be true of a memory and of the lists it is compared with, whatever was done to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis.stateful import RuleBasedStateMachine, invariant
from torch import Tensor

from keyvalise.store import layer
from keyvalise.store.roll import Roll, writable
from keyvalise.store.tail import Tail
from keyvalise.types.data import Memory, Partial, Queries, Stretch
from keyvalise.types.geometry import Geometry
from tests.property.plain import Plain, check, raw_counts
from tests.support.compare import assert_close, assert_same

N_HEADS, GROUP, DIM = 2, 2, 10
ACT = "fold"


@dataclass(frozen=True)
class Value:
    """A memory, what it must hold, and the numbers of the values it came from."""

    memory: Memory
    plain: Plain
    number: int
    ancestors: frozenset[int] = frozenset()


class Held(RuleBasedStateMachine):
    """`now` is the value that rules go on from, `past` some older ones; a subclass makes and changes them."""

    now: Value
    past: list[Value]
    geometry: Geometry
    codec: Any
    sinks: Tensor | None

    @property
    def holds(self) -> bool:
        return bool(writable(self.now.memory))

    def normal(self, seed: int, n_heads: int, width: int, dim: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(len(self.now.plain.clock), n_heads, width, dim, generator=generator)

    @invariant()
    def poison(self) -> None:
        """Whatever lies behind the newest value's entries was never written, so nobody may see it."""
        for segment in self.now.memory.segments:
            if isinstance(segment, Tail) and segment.arena.version == segment.version:
                segment.arena.keys[:, :, segment.longest :] = math.nan
                segment.arena.values[:, :, segment.longest :] = math.nan

    @invariant()
    def every_value_that_is_held_is_right(self) -> None:
        for value in (self.now, *self.past):
            check(value.memory, value.plain)

    @invariant()
    def counts_are_right(self) -> None:
        memory, plain = self.now.memory, self.now.plain
        counts = [len(cell) for cell in plain.flat]
        rows = [max(map(len, row)) for row in plain.cells]
        assert layer.longest(memory) == max(counts) and layer.row_lengths(memory) == tuple(rows)
        assert not self.holds or layer.head_counts(memory) == counts
        assert raw_counts(memory, len(rows), N_HEADS) == plain.raw()
        assert layer.raw_length(memory) >= max(map(max, plain.raw()))
        assert layer.live_groups(memory) == (plain.live_groups() if self.codec.group > 1 else [0] * len(rows))
        own = (
            self.codec.bytes_per_entry(self.geometry)
            - self.codec.group_bytes(self.geometry) / self.codec.group
        )
        least = (sum(counts) - self.n_raw) * own + self.n_raw * self.geometry.entry_bytes
        assert self.bytes_of() >= least + self.bytes_of_sketch()

    @invariant()
    def a_query_sees_everything(self) -> None:
        if self.now.memory.segments:
            stretch = Stretch.whole(1, self.now.plain.clock)
            q = self.normal(1, GROUP * N_HEADS, 1, DIM)
            answer, _ = layer.attend_all(self.now.memory, Queries(q, stretch, self.geometry))
            self.answers(answer, q, stretch)

    def answers(self, got: Partial, q: Tensor, stretch: Stretch) -> None:
        """Every real query is answered as by one softmax over the plain lists."""
        want = self.now.plain.attend(q, stretch, self.geometry, self.sinks)
        real = (stretch.ordinals() >= 0)[:, None].expand(want.lse.shape)
        assert_close(got.lse[real], want.lse[real], "attention_fp32", what="lse")
        assert_close(got.out[real], want.out[real], "attention_fp32", what="out")

    def columns_are_right(self, roll: Roll) -> None:
        """The roll that was handed back knows the new columns too."""
        fresh = Roll.of(self.now.memory).entries
        assert roll.entries.columns.keys() >= fresh.columns.keys()
        for name in fresh.columns:
            assert_same(roll.entries.column(name)[fresh.live], fresh.column(name)[fresh.live], what=name)

    @property
    def n_raw(self) -> int:
        return sum(map(sum, self.now.plain.raw()))

    def fits_exactly(self, n: int) -> None:
        """Raw keys and values take the bytes of n entries, and what is remembered of others."""
        sketch = self.bytes_of_sketch()
        assert self.bytes_of("keys", "values") == sketch + n * self.geometry.entry_bytes

    def bytes_of_sketch(self) -> int:
        """Keys and values of what is remembered of dropped entries."""
        sketch = layer.owned(self.now.memory, ACT)
        if sketch is None:
            return 0
        is_held = (sketch.logw > -math.inf).flatten(1).any(1)
        return sketch.logw[is_held].numel() * self.geometry.entry_bytes

    def bytes_of(self, *fields: str) -> int:
        """Bytes of the distinct storages behind these fields, or behind all."""
        held = [named[2] for _, named in layer.tensors(self.now.memory) if not fields or named[0] in fields]
        return sum({s.data_ptr(): s.nbytes() for s in (t.untyped_storage() for t in held)}.values())
