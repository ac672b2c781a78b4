"""Values of the store as plain JSON data and named tensors, and back.

A value is taken apart by the fields of its dataclass; a new kind of segment is one line in KINDS. What the
store knows only by a protocol (a code, the surroundings of a layer) its owner writes and reads.

    null, true, 3, "text"            as they are           [ … ]                      a tuple
    {"tensor": part}                 a tensor              {"list": [ … ]}            a list
    {"map": {name: value}}           a mapping             {"pairs": [[key, value]]}  one with other keys
    {"kind": name, field: value}     a value of KINDS      {"own": data}              what its owner wrote
    {"float": "inf"}                 a number that JSON cannot write
    {"dtype": "float16"}             a dtype               {"device": null}           where the rest lies
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from keyvalise.store.arena import Arena
from keyvalise.store.block import Block
from keyvalise.store.coded import Coded
from keyvalise.store.demoted import Demoted
from keyvalise.store.indexed import Indexed
from keyvalise.store.null import Null
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.store.runs import near
from keyvalise.store.shared import Past, Shared
from keyvalise.store.sketched import Sketched
from keyvalise.store.tail import Tail
from keyvalise.store.tokens import Tokens
from keyvalise.types.code import Codes
from keyvalise.types.data import Memory, Sketch
from keyvalise.types.errors import CacheFileError, Damaged, FutureVersion, KeyvaliseError
from keyvalise.types.geometry import Geometry, Rope


class Owner(Protocol):
    """Writes and reads what the store knows only by a protocol."""

    def write(self, value: Any) -> Any:
        """Plain data for a value.

        Raises   TypeError where there is none
        """
        ...

    def read(self, data: Any) -> Any:
        """The value that `write` described."""
        ...


def _whole(value: Any) -> tuple[Any, dict[str, Any]]:
    return value, {}


def _same(value: Any, more: Mapping[str, Any]) -> Any:
    return value


@dataclass(frozen=True)
class Kind:
    """How values of a class are stored: by their fields.

    out    the value without what is not worth storing, and plain data about that;  back: the way back
    """

    type: type
    out: Callable[[Any], tuple[Any, dict[str, Any]]] = _whole
    back: Callable[[Any, Mapping[str, Any]], Any] = _same


def _written(tail: Tail) -> tuple[Tail, dict[str, Any]]:
    """A tail without the unwritten end of its arena."""
    arena = Arena(tail.keys, tail.values)
    return replace(tail, arena=arena, version=0), {"capacity": tail.arena.capacity}


def _roomy(tail: Tail, more: Mapping[str, Any]) -> Tail:
    capacity = int(more["capacity"])
    if capacity < tail.longest:
        raise ValueError("an arena holds less than its tail")
    return replace(tail, arena=tail.arena.roomy(tail.longest, capacity))


def _near(block: Block) -> tuple[Block, dict[str, Any]]:
    """A block with its entries; where they are to lie is the reader's business when they are read again."""
    return replace(block, held=near(block.held)), {}


KINDS: dict[str, Kind] = {
    "memory": Kind(Memory),
    "tail": Kind(Tail, _written, _roomy),
    "ragged": Kind(Ragged),
    "coded": Kind(Coded),
    "demoted": Kind(Demoted),
    "tokens": Kind(Tokens),
    "indexed": Kind(Indexed),
    "block": Kind(Block, _near),
    "sketch": Kind(Sketched),
    "null": Kind(Null),
    "shared": Kind(Shared),
    "past": Kind(Past),
    "arena": Kind(Arena),
    "places": Kind(Places),
    "codes": Kind(Codes),
    "remembered": Kind(Sketch),
    "geometry": Kind(Geometry),
    "rope": Kind(Rope),
}
"""name → what is stored under it."""

_NAMES = {kind.type: name for name, kind in KINDS.items()}


@dataclass
class Writer:
    """Takes values apart; `parts` are the tensors met so far, each once."""

    owner: Owner
    parts: dict[str, Tensor] = field(default_factory=dict)
    known: dict[Any, str] = field(default_factory=dict)

    def write(self, value: Any, path: str) -> Any:
        """Plain data for a value; its tensors are named after `path` and the fields that lead to them.

        Raises   CacheFileError for a value that nobody can write
        """
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"device": None}
        if isinstance(value, tuple | list):
            items = [self.write(item, f"{path}.{i}") for i, item in enumerate(value)]
            return items if isinstance(value, tuple) else {"list": items}
        if isinstance(value, Mapping):
            pairs = [(key, self.write(item, f"{path}.{key}")) for key, item in value.items()]
            is_named = all(isinstance(key, str) for key in value)
            return {"map": dict(pairs)} if is_named else {"pairs": [[*pair] for pair in pairs]}
        return self._kind(value, path) if type(value) in _NAMES else self._own(value, path)

    def _kind(self, value: Any, path: str) -> Any:
        name = _NAMES[type(value)]
        value, more = KINDS[name].out(value)
        data = {one.name: self.write(getattr(value, one.name), f"{path}.{one.name}") for one in fields(value)}
        return {"kind": name, **data, **more}

    def _own(self, value: Any, path: str) -> Any:
        try:
            return {"own": self.owner.write(value)}
        except TypeError:
            kind = type(value).__name__
            raise CacheFileError(f"{path} is a {kind}, which cannot be stored in a file") from None

    def _tensor(self, tensor: Tensor, path: str) -> Any:
        """A tensor in the order of its memory, and how to see it in its own."""
        order = list(range(tensor.ndim))
        if not tensor.is_contiguous():
            order.sort(key=tensor.stride, reverse=True)
        mark = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        name = self.known.get(mark) if tensor.numel() else None
        if name is None:
            name = path
            while name in self.parts:
                name += "'"
            self.parts[name] = tensor.detach().permute(order)
            self.known[mark] = name
        return {"tensor": name} if order == sorted(order) else {"tensor": name, "order": order}


@dataclass
class Reader:
    """Puts values together; `part` reads a tensor by its name, `device` is where it is to lie."""

    owner: Owner
    part: Callable[[str], Tensor]
    device: torch.device
    known: dict[str, Tensor] = field(default_factory=dict)

    def read(self, data: Any, what: str) -> Any:
        """The value that was taken apart.

        Raises   Damaged where the data describe none; FutureVersion for a kind that is not known
        """
        try:
            return self._value(data)
        except KeyvaliseError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise Damaged(f"{what} cannot be put together: {type(error).__name__} {error}") from None

    def _value(self, data: Any) -> Any:
        if isinstance(data, list):
            return tuple(self._value(item) for item in data)
        if not isinstance(data, dict):
            return data
        if "kind" in data:
            return self._kind(data)
        ((form, inner),) = [item for item in data.items() if item[0] != "order"]
        match form:
            case "tensor":
                return self._tensor(inner, data.get("order"))
            case "map":
                return {name: self._value(item) for name, item in inner.items()}
            case "pairs":
                return {key: self._value(item) for key, item in inner}
            case "list":
                return [self._value(item) for item in inner]
            case "dtype":
                return getattr(torch, inner)
            case "device":
                return self.device
            case "float":
                return float(inner)
            case "own":
                return self.owner.read(inner)
        raise FutureVersion(f"the cache file holds a value of the form {form!r}, which is not known here")

    def _kind(self, data: Mapping[str, Any]) -> Any:
        kind = KINDS.get(data["kind"])
        if kind is None:
            raise FutureVersion(f"the cache file holds a {data['kind']!r}, which this library does not know")
        known = {one.name for one in fields(kind.type)}
        values = {name: self._value(item) for name, item in data.items() if name in known}
        return kind.back(kind.type(**values), data)

    def _tensor(self, name: str, order: list[int] | None) -> Tensor:
        if name not in self.known:
            self.known[name] = self.part(name).to(self.device)
        found = self.known[name]
        return found if order is None else found.permute([order.index(axis) for axis in range(len(order))])
