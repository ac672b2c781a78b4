"""The store against plain lists: whatever is done to a memory in whatever order, it holds and answers what
lists would, and no value that somebody still holds is ever changed.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from torch import Tensor

from keyvalise.encode.grouped import Int8Encode
from keyvalise.encode.kivi import KiviEncode
from keyvalise.store import chosen, layer
from keyvalise.store.coded import Coded
from keyvalise.store.null import Null
from keyvalise.store.roll import Roll, with_columns, writable
from keyvalise.store.tail import Tail
from keyvalise.types.data import Choice, Env, Memory, Piece, Queries, Sketch, Stretch
from keyvalise.types.geometry import Geometry
from tests.property.held import ACT, DIM, GROUP, N_HEADS, Held, Value
from tests.property.plain import NAMES, Plain, raw_counts
from tests.support.compare import assert_close

CODECS = (Int8Encode(channels=8), KiviEncode(bits=4, group=8))
seeds = st.integers(0, 2**16)


class Store(Held):
    """`now` is the value that rules go on from, `past` some older ones that are still held."""

    @initialize(
        rows=st.integers(1, 3),
        codec=st.sampled_from(CODECS),
        softcap=st.sampled_from([None, None, 3.0]),
        value_dim=st.sampled_from([DIM, DIM, 12]),
        dtype=st.sampled_from([torch.float32, torch.float32, torch.bfloat16]),
        has_sinks=st.booleans(),
        seed=seeds,
    )
    def begin(
        self,
        rows: int,
        codec: Any,
        softcap: float | None,
        value_dim: int,
        dtype: torch.dtype,
        has_sinks: bool,
        seed: int,
    ) -> None:
        self.geometry = Geometry(1, GROUP * N_HEADS, N_HEADS, DIM, value_dim, dtype, DIM**-0.5, softcap)
        self.env, self.codec = Env(0, self.geometry), codec
        self.sinks = torch.linspace(-1, 2, GROUP * N_HEADS) if has_sinks else None
        frozen = () if self.sinks is None else (Null(self.sinks, value_dim),)
        self.numbers = itertools.count()
        memory = replace(layer.born(rows, frozen), stats={"n": torch.zeros(rows)})
        self.now = Value(memory, Plain.born(rows, N_HEADS), next(self.numbers))
        self.past: list[Value] = []
        self.grow(seed, 1)

    def move(self, memory: Memory, plain: Plain) -> None:
        """The next value; the present one stays held."""
        self.past = [*self.past[-7:], self.now]
        self.now = Value(memory, plain, next(self.numbers), self.now.ancestors | {self.now.number})

    def some_rows(self, data: Any) -> tuple[bool, ...]:
        n_rows = len(self.now.plain.clock)
        return tuple(data.draw(st.lists(st.booleans(), min_size=n_rows, max_size=n_rows)))

    def tensors(self, seed: int, stretch: Stretch) -> list[Tensor]:
        """Random queries, keys and values, NaN where the stretch holds padding."""
        shapes = ((GROUP * N_HEADS, DIM), (N_HEADS, DIM), (N_HEADS, self.geometry.value_dim))
        is_padding = (stretch.ordinals() < 0)[:, None, :, None]
        return [
            self.normal(seed + i, n, stretch.width, dim).masked_fill(is_padding, math.nan)
            for i, (n, dim) in enumerate(shapes)
        ]

    def grow(self, seed: int, least: int = 0) -> None:
        """A few calls, mostly of one token; without them nothing shows whether a value is a value."""
        draw = random.Random(seed)
        for i in range(max(least, draw.choice([0, 1, 2]))):
            if draw.random() < 0.5:
                self.step(seed + 7 * i)
            else:
                self.append(seed + 7 * i, draw.choice([1, 1, 2, 5, 12]), draw.random() < 0.4)

    @rule(seed=seeds, width=st.integers(1, 12), is_padded=st.booleans())
    def append(self, seed: int, width: int, is_padded: bool) -> None:
        memory, plain, draw = self.now.memory, self.now.plain, random.Random(seed)
        stretch = Stretch.whole(width, plain.clock)
        if is_padded:
            leads = tuple(draw.randint(0, width) for _ in plain.clock)
            stretch = Stretch(width, plain.clock, leads, tuple(width - lead for lead in leads))
        q, k, v = self.tensors(seed, stretch)
        memory = layer.append(memory, Piece(q, k, v, stretch), self.geometry.dtype, "absolute")
        plain = plain.append(k, v, stretch, self.geometry.dtype)
        if draw.random() < 0.5:
            memory, plain = replace(memory, prompt=memory.clock), replace(plain, prompt=plain.clock)
        answer, memory = layer.attend_all(memory, Queries(q, stretch, self.geometry))
        self.move(memory, plain)
        self.answers(answer, q, stretch)

    @rule(seed=seeds)
    def step(self, seed: int) -> None:
        memory, plain = self.now.memory, self.now.plain
        stretch = Stretch.whole(1, plain.clock)
        q, k, v = self.tensors(seed, stretch)
        found = layer.step(memory, q, k, v, self.env)
        if found is None:
            tail = memory.segments[-1] if memory.segments else None
            assert self.geometry.softcap is not None or not (isinstance(tail, Tail) and tail.is_simple)
            self.append(seed, 1, False)
            return
        out, memory = found
        self.move(memory, plain.append(k, v, stretch, self.geometry.dtype))
        want = self.now.plain.attend(q, stretch, self.geometry, self.sinks)
        assert_close(out, want.out, "attention_fp32", what="a step's out")

    @precondition(lambda self: self.holds)
    @rule(
        data=st.data(),
        seed=seeds,
        share=st.sampled_from([0.0, 0.2, 0.6, 0.9, 1.0]),
        how=st.sampled_from(["head", "layer", "count"]),
        weighs=st.sampled_from([False, False, True]),
        rewrites=st.sampled_from(["", "", "keys", "values"]),
    )
    def keep(self, data: Any, seed: int, share: float, how: str, weighs: bool, rewrites: str) -> None:
        memory, plain, rows = self.now.memory, self.now.plain, self.some_rows(data)
        roll = Roll.of(memory)
        live = roll.entries.live
        width = live.shape[-1]
        draws = self.normal(seed, N_HEADS, width, 1)[..., 0].sigmoid()
        if how == "layer":
            draws = draws[:, :1].expand_as(draws)
        keep = draws <= share
        if how == "count":
            keep = draws.masked_fill(~live, 2.0).argsort(-1).argsort(-1) < round(7 * share)
        choice = Choice(keep, torch.where(keep & live, (8 * draws).round() / 8, 0.0) if weighs else None)
        if rewrites:
            dim = DIM if rewrites == "keys" else self.geometry.value_dim
            choice = replace(choice, **{rewrites: self.normal(seed + 1, N_HEADS, width, dim)})
        self.move(chosen.keep(memory, roll, choice, rows), plain.keep(choice, rows))
        self.fits_exactly(self.n_raw)
        self.grow(seed)

    @precondition(lambda self: self.now.memory.segments)
    @rule(data=st.data(), seed=seeds)
    def remember(self, data: Any, seed: int) -> None:
        rows = self.some_rows(data)
        keys, values = (
            self.normal(seed + i, N_HEADS, 3, dim).to(self.geometry.dtype)
            for i, dim in enumerate((DIM, self.geometry.value_dim))
        )
        weights = self.normal(seed, N_HEADS, 3, 1)[..., 0]
        sketch = Sketch(keys, values, weights.masked_fill(weights < -0.5, -math.inf))
        self.move(layer.owning(self.now.memory, ACT, sketch, rows), self.now.plain.remember(sketch, rows))
        self.grow(seed)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), seed=seeds, is_fitted=st.booleans())
    def settle(self, data: Any, seed: int, is_fitted: bool) -> None:
        plain, n_rows, hurry = self.now.plain, len(self.now.plain.clock), self.some_rows(data)
        residual = data.draw(st.lists(st.integers(0, 20), min_size=n_rows, max_size=n_rows))
        memory = layer.settle(self.now.memory, self.codec, self.env, layer.Todo(residual, hurry))
        left = raw_counts(memory, n_rows, N_HEADS)
        size = self.codec.group
        leaving = [
            [a - b for a, b in zip(*pair, strict=True)] for pair in zip(plain.raw(), left, strict=True)
        ]
        for is_hurried, most, *rows in zip(hurry, residual, plain.raw(), left, leaving, strict=True):
            run = size if is_hurried else max(size, layer.CODING_RUN)
            for raw, rest, gone in zip(*rows, strict=True):
                assert gone >= 0 and gone % size == 0, "entries leave in whole groups"
                assert rest <= most or rest < size, "no more than the residual stays raw"
                assert gone == 0 or gone < raw - most + run, "no more than needed leaves"
        self.move(memory, plain.code(self.codec, self.env, leaving))
        if is_fitted:
            self.fitted()
        self.grow(seed)

    @precondition(lambda self: max(self.now.plain.clock) > 0)
    @rule(seed=seeds, n=st.integers(1, 15))
    def crop(self, seed: int, n: int) -> None:
        self.move(layer.cropped(self.now.memory, n), self.now.plain.crop(n))
        self.grow(seed)

    @rule(data=st.data(), seed=seeds)
    def rows(self, data: Any, seed: int) -> None:
        last = len(self.now.plain.clock) - 1
        order = data.draw(st.lists(st.integers(0, last), min_size=1, max_size=3))
        self.move(layer.rows(self.now.memory, torch.tensor(order)), self.now.plain.rows(order))
        self.grow(seed)

    @precondition(lambda self: self.holds)
    @rule(seed=seeds, names=st.sets(st.sampled_from(NAMES)))
    def with_columns(self, seed: int, names: set[str]) -> None:
        memory, plain = self.now.memory, self.now.plain
        roll = Roll.of(memory)
        live = roll.entries.live
        columns = {
            name: self.normal(seed + i, N_HEADS, live.shape[-1], 1)[..., 0].masked_fill(~live, math.nan)
            for i, name in enumerate(sorted(names))
        }
        stat = self.normal(seed, 1, 1, 1).flatten()
        memory, roll = with_columns(replace(memory, stats={"n": stat}), roll, columns)
        self.move(memory, replace(plain.with_columns(columns), stats=tuple(stat.tolist())))
        self.columns_are_right(roll)
        self.grow(seed)

    def fitted(self) -> None:
        self.move(layer.fitted(self.now.memory), self.now.plain)
        raw = [s for s in writable(self.now.memory) if not isinstance(s, Coded)]
        self.fits_exactly(
            sum(s.entries().live.numel() if isinstance(s, Tail) else int(s.lengths.sum()) for s in raw)
        )

    @precondition(lambda self: self.past)
    @rule(data=st.data(), seed=seeds)
    def go_on_from_an_older_value(self, data: Any, seed: int) -> None:
        old = data.draw(st.integers(0, len(self.past) - 1))
        self.past.append(self.now)
        self.now = self.past.pop(old)
        self.grow(seed, 1)

    @precondition(lambda self: self.past)
    @rule(data=st.data(), seed=seeds)
    def take_back(self, data: Any, seed: int) -> None:
        """Return to an older value and abandon whatever came from it."""
        old = self.past[data.draw(st.integers(0, len(self.past) - 1))]
        self.past = [value for value in self.past if value.number in old.ancestors]
        self.now = replace(old, memory=layer.reclaimed(old.memory))
        self.grow(seed, 1)


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=30, deadline=None, derandomize=True)


@pytest.mark.slow
class TestStoreLong(Store.TestCase):
    settings = settings(max_examples=300, stateful_step_count=60, deadline=None, derandomize=True)
