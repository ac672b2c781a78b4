"""Rows that read the same segments: answers are those of copies, bytes are there once, rows may part."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.store import layer, shared
from keyvalise.store.shared import Shared
from keyvalise.types.data import Memory, Piece, Queries, Stretch
from keyvalise.types.geometry import Geometry
from tests.support import segments
from tests.support.segments import Runs

SHAPE = Geometry(1, 6, 3, 8, 5, torch.float32, 0.4, 3.0)
EVEN = [[150] * 3] * 2
INDEX = torch.tensor([0, 0, 1, 0])


def memory(kind: str, weighs: bool = True) -> Memory:
    """Two rows of 150 tokens; `both` has as many codes before its tail, `null` also a learned sink."""
    runs, stats = Runs.random(SHAPE, EVEN, weighs=weighs), {"x": torch.rand(2, 3)}
    if kind in ("both", "null"):
        nulls = (segments.null(SHAPE),) if kind == "null" else ()
        held = Memory((*nulls, runs.segment("coded")), stats, (150, 150), (150, 150))
        return grown(held, 150, 3)
    return Memory((runs.segment(kind),), stats, (150, 150), (150, 150))


def asked(n_rows: int, n: int, clock: int) -> Queries:
    q = segments.queries(SHAPE, n_rows, n)
    return replace(q, stretch=Stretch.whole(n, (clock,) * n_rows))


def answer(memory: Memory, n: int = 1) -> Tensor:
    """Attention of new tokens that every row takes in first."""
    queries = asked(len(memory.clock), n, memory.clock[0])
    return layer.attend_all(grown(memory, n, 7), queries)[0].out


@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.parametrize("kind", ["tail", "ragged", "coded", "both", "null"])
def test_readers_are_answered_as_copies_are(kind: str, n: int) -> None:
    held = memory(kind)
    assert shared.may_be(held)
    mine, copies = shared.share(held, INDEX), layer.rows(held, INDEX)
    assert torch.allclose(answer(mine, n), answer(copies, n), atol=1e-5)
    assert torch.equal(mine.stats["x"], held.stats["x"][INDEX]) and mine.clock == copies.clock
    assert layer.positions(mine) == layer.positions(copies)


def test_what_is_common_is_there_once() -> None:
    held = memory("both")
    before = {t.untyped_storage().data_ptr() for _, (_, _, t) in layer.tensors(held) if t.ndim > 2}
    mine = shared.share(held, INDEX)
    assert before <= {t.untyped_storage().data_ptr() for _, (_, _, t) in layer.tensors(mine)}
    n_bytes = [
        sum(
            {
                t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
                for _, (*_, t) in layer.tensors(m)
            }.values()
        )
        for m in (held, mine)
    ]
    assert n_bytes[1] <= n_bytes[0] + 64


def grown(memory: Memory, n: int, seed: int) -> Memory:
    """With n tokens of every row's own."""
    n_rows = len(memory.clock)
    noise = torch.Generator().manual_seed(seed)
    k, v, q = (torch.randn(n_rows, h, n, dim, generator=noise) for h, dim in ((3, 8), (3, 5), (6, 8)))
    stretch = Stretch.whole(n, memory.clock)
    return layer.append(memory, Piece(q, k, v, stretch), torch.float32, "absolute")


def test_a_tree_of_beginnings() -> None:
    held, twin = memory("both"), memory("both")
    twin = replace(twin, stats=held.stats)
    for seed, index in enumerate((INDEX, torch.tensor([3, 1, 1, 2, 0]))):
        held = shared.share(grown(held, 130, seed), index)
        twin = layer.rows(grown(twin, 130, seed), index)
    assert sum(isinstance(segment, Shared) for segment in held.segments) == 1
    assert torch.allclose(answer(held), answer(twin), atol=1e-5)
    assert layer.positions(held) == layer.positions(twin)


def test_rows_change_places_without_being_copied() -> None:
    held = grown(shared.share(memory("both"), INDEX), 3, 1)
    twin = grown(layer.rows(memory("both"), INDEX), 3, 1)
    for index in (torch.tensor([2, 1, 3, 0]), torch.tensor([0, 0, 0, 2]), torch.tensor([1, 1, 1, 1])):
        held, twin = layer.rows(held, index, may_share=True), layer.rows(twin, index)
        assert torch.allclose(answer(held), answer(twin), atol=1e-5)
    (only,) = (segment for segment in held.segments if isinstance(segment, Shared))
    assert set(only.readers) == {0}, "rows that nobody reads are let go"


@pytest.mark.parametrize("n", [2, 5, 40, 200, 700])
def test_tokens_are_taken_back_wherever_they_lie(n: int) -> None:
    held = grown(shared.share(memory("both", weighs=False), INDEX), 5, 1)
    twin = grown(layer.rows(memory("both", weighs=False), INDEX), 5, 1)
    held, twin = layer.cropped(held, n), layer.cropped(twin, n)
    assert layer.positions(held) == layer.positions(twin) and held.clock == twin.clock
    assert torch.allclose(answer(held), answer(twin), atol=1e-5)


def test_every_row_for_itself_again() -> None:
    held = grown(shared.share(memory("both"), INDEX), 3, 1)
    alone = shared.apart(held)
    assert not any(isinstance(segment, Shared) for segment in alone.segments)
    assert torch.allclose(answer(alone), answer(held), atol=1e-5)


def test_little_is_copied_and_some_things_are_never_shared() -> None:
    few = Memory((Runs.random(SHAPE, [[7] * 3]).segment("tail"),), {}, (7,), (7,))
    assert not shared.may_be(few)
    many = memory("both")
    slots = replace(many, segments=(replace(many.segments[-1], angle="slot"),))  # type: ignore[type-var]
    assert not shared.may_be(slots)
    again = grown(shared.share(many, INDEX), 140, 2)
    assert not shared.may_be(again), "less than what is shared already"
