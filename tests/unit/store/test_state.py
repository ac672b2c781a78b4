"""Segments as plain data and tensors, and back: every kind, whatever a value is made of."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.recipe.reader import Reader
from keyvalise.store import state
from keyvalise.store.arena import Arena
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.store.shared import Past, Shared
from keyvalise.store.sketched import Sketched
from keyvalise.store.tail import Tail
from keyvalise.store.tokens import Tokens
from keyvalise.types.data import Env, Memory, Sketch, Stretch
from keyvalise.types.errors import CacheFileError, Damaged, FutureVersion
from keyvalise.types.geometry import Geometry, Rope
from keyvalise.types.scratch import Scratch
from keyvalise.types.segment import Segment
from tests.support import reading, segments
from tests.support.segments import Runs

SHAPE = Geometry(3, 8, 4, 6, 5, torch.float32, 0.4, 30.0)
READS = "clusters(2) > read(3, sinks=1) > estimate(2)"
READER = reading.reader(READS)
COUNTS = [[3, 0, 7, 2], [1, 1, 0, 4]]
EVEN = [[5] * 4] * 2


@dataclass(frozen=True)
class Chain:
    """A code of whole tokens that changes nothing."""

    def write(self, env: Env, keys: Tensor, values: Tensor, below: Any) -> dict[str, Tensor]:
        return {"keys": keys, "values": values}

    def read(self, env: Env, codes: Any, below: Any) -> tuple[Tensor, Tensor]:
        return codes["keys"], codes["values"]


@dataclass(frozen=True)
class Owner:
    """Knows the tests' own code and one surrounding."""

    env: Env

    def write(self, value: Any) -> Any:
        if isinstance(value, Env | segments.PlainEncode | Chain):
            return type(value).__name__
        if isinstance(value, Reader):
            return "Reader"
        raise TypeError(type(value))

    def read(self, data: Any) -> Any:
        return {"Env": self.env, "PlainEncode": segments.PlainEncode(), "Chain": Chain(), "Reader": READER}[
            data
        ]


def around(value: Any) -> Any:
    """What becomes of a value that is taken apart, written as JSON, read and put together."""
    owner = Owner(Env(0, SHAPE))
    writer = state.Writer(owner)
    data = json.loads(json.dumps(writer.write(value, "x"), allow_nan=False))
    parts = {name: tensor.contiguous().clone() for name, tensor in writer.parts.items()}
    return state.Reader(owner, parts.__getitem__, torch.device("cpu")).read(data, "x")


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, whatever it is made of."""
    if isinstance(a, Tensor):
        is_alike = a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()
        return is_alike and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if is_dataclass(a):
        if isinstance(a, Arena):
            return type(a) is type(b) and a.keys.shape == b.keys.shape and a.values.shape == b.values.shape
        names = [one.name for one in fields(a) if one.name != "version"]
        return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def sketch() -> Sketched:
    noise = torch.Generator().manual_seed(3)
    keys, values = torch.randn(2, 4, 3, 6, generator=noise), torch.randn(2, 4, 3, 5, generator=noise)
    logw = torch.randn(2, 4, 3, generator=noise)
    logw[1] = float("-inf")
    return Sketched.of(Sketch(keys, values, logw), None, (True, True), "compensate")


def kinds() -> dict[str, Segment]:
    ragged = Runs.random(SHAPE, COUNTS, weighs=True)
    columns = {"mass": torch.rand(sum(ragged.counts))}
    coded = ragged.segment("coded")
    tail = Runs.random(SHAPE, EVEN, weighs=True).segment("tail", 2)
    assert isinstance(coded, Coded) and isinstance(tail, Tail) and tail.logw is not None
    even = Runs.random(SHAPE, EVEN).flat()
    units = reading.indexed(Runs.random(SHAPE, COUNTS), READS, cuts=(3,))
    units = units.attend(segments.queries(SHAPE, 2, 1))[1]
    tail = replace(tail, logw=tail.logw.clone(memory_format=torch.contiguous_format))
    found = {
        "tail": tail,
        "ragged": replace(ragged.segment("ragged"), columns=columns),
        "coded": replace(coded, columns=columns),
        "sketch": sketch(),
        "demoted": Demoted(coded, torch.rand(2, 4, 6).half(), "demote"),
        "tokens": Tokens.of(Chain(), Env(0, SHAPE), even, Stretch.whole(5, (0, 0)), Scratch()),
        "null": segments.null(SHAPE),
        "shared": Shared((Past(tail), coded), (1, 0)),
        "indexed": replace(units, columns={"mass": torch.rand(2, 4, 7)}),
    }
    assert found.keys() == {kind.type.kind for kind in state.KINDS.values() if hasattr(kind.type, "kind")}
    return found


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_segment_comes_back(kind: str) -> None:
    segment = kinds()[kind]
    found = around(segment)
    assert same(segment, found) and found.kind == kind
    queries = replace(segments.queries(SHAPE, 2, 2), scratch=Scratch())
    a, b = segment.attend(queries)[0], found.attend(queries)[0]
    assert torch.equal(a.out, b.out) and torch.equal(a.lse, b.lse)


def test_a_memory_comes_back() -> None:
    memory = Memory(tuple(kinds().values()), {"a.b": torch.rand(2, 7), "a": torch.rand(2)}, (9, 4), (9, 3))
    assert same(memory, around(memory))


def test_what_an_arena_has_not_written_is_not_stored_and_comes_back_as_room() -> None:
    tail = Runs.random(SHAPE, EVEN).segment("tail")
    assert isinstance(tail, Tail)
    roomy = replace(tail, arena=tail.arena.roomy(5, 40))
    roomy.arena.keys[:, :, 5:] = float("nan")
    writer = state.Writer(Owner(Env(0, SHAPE)))
    writer.write(roomy, "x")
    assert writer.parts["x.arena.keys"].shape == (2, 4, 5, 6)
    found = around(roomy)
    assert found.arena.capacity == 40 and torch.equal(found.keys, tail.keys)
    assert found.arena.keys.untyped_storage().nbytes() == roomy.arena.keys.untyped_storage().nbytes()


PLAIN = {
    "nothing": None,
    "numbers": (True, 0, -3, 1.5, float("-inf"), "text"),
    "nested": ((1, (2,)), [3, [4.0]], {"a": {"b": (None,)}}, {1: "x", 2: [torch.ones(3)]}, ()),
    "types": (torch.bfloat16, torch.device("cpu")),
    "tensors": {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3),
        "turned": torch.rand(3, 4, 5).permute(2, 0, 1),
        "flags": torch.tensor([True, False]),
    },
    "rope": Rope(torch.rand(8), True, 1.25, False),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_come_back(name: str) -> None:
    assert same(PLAIN[name], around(PLAIN[name]))


def test_a_tensor_that_is_held_twice_is_stored_once() -> None:
    one = torch.rand(9)
    writer = state.Writer(Owner(Env(0, SHAPE)))
    writer.write({"a": one, "b": (one, one[:4])}, "x")
    assert list(writer.parts) == ["x.a", "x.b.1"]
    first, second = around((one, one))
    assert first.data_ptr() == second.data_ptr()


def test_names_that_meet_stay_apart() -> None:
    value = {"a.b": torch.ones(2), "a": {"b": torch.zeros(2)}}
    assert same(value, around(value))


def test_what_nobody_knows_is_refused() -> None:
    with pytest.raises(CacheFileError, match=r"x\.deep is a object, which cannot be stored in a file"):
        state.Writer(Owner(Env(0, SHAPE))).write({"deep": object()}, "x")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"kind": "hologram"}, FutureVersion),
        ({"hologram": 3}, FutureVersion),
        ({"kind": "places", "shape": [1, 1]}, Damaged),
        ({"tensor": "gone"}, Damaged),
        ({"tensor": "x", "order": [0, 0]}, Damaged),
        ({"dtype": "float3"}, Damaged),
        ({"a": 1, "b": 2}, Damaged),
        ({}, Damaged),
        ({"kind": {}}, Damaged),
    ],
)
def test_data_that_describe_nothing_are_refused(data: Any, kind: type[Exception]) -> None:
    reader = state.Reader(Owner(Env(0, SHAPE)), {"x": torch.ones(2, 2)}.__getitem__, torch.device("cpu"))
    with pytest.raises(kind):
        reader.read(data, "this")


def test_a_tail_longer_than_its_arena_is_refused() -> None:
    tail = Runs.random(SHAPE, EVEN).segment("tail")
    writer = state.Writer(Owner(Env(0, SHAPE)))
    data = {**writer.write(tail, "x"), "capacity": 3}
    reader = state.Reader(Owner(Env(0, SHAPE)), writer.parts.__getitem__, torch.device("cpu"))
    with pytest.raises(Damaged, match="cannot be put together: ValueError an arena holds less than its tail"):
        reader.read(data, "this")
