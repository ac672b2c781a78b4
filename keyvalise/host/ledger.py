"""Bytes as they are: every tensor a cache can reach, once per storage.

Knows which field of which segment a tensor belongs to; knows nothing of budgets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from keyvalise.store import kernels
from keyvalise.store import layer as store
from keyvalise.store.roll import writable
from keyvalise.store.shared import Shared

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache


@dataclass(frozen=True)
class Line:
    """Bytes of one field of one kind of segment in one layer; `is_shared`: a fork holds the same storages."""

    layer: int
    kind: str
    field: str
    tier: str
    n_bytes: int
    is_shared: bool


@dataclass(frozen=True)
class Ledger:
    """Lines of bytes; entries per kv head of every handled layer; notes on what a budget could not hold.

    knobs    what parts that find out for themselves how much is kept have found, with the layers
    assets   name → bytes of what the recipe reads beside the model, counted apart
    slow     bytes that were read from slow tiers, ever and in the latest forward
    kernels  kind of segment → who answers for it while decoding, where there is a choice
    """

    recipe: str
    seen: int
    lines: tuple[Line, ...]
    entries: dict[int, int]
    notes: tuple[str, ...] = ()
    knobs: tuple[str, ...] = ()
    assets: dict[str, int] = dataclasses.field(default_factory=dict)
    slow: dict[str, int] = dataclasses.field(default_factory=dict)
    kernels: dict[str, str] = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(cache: KVCache) -> Ledger:
        kin = (other for other in cache.shared.kin if other is not cache)
        others = {place(tensor) for other in kin for *_, tensor in walk(other)}
        counted: set[int] = set()
        lines: dict[tuple[int, str, str, str, bool], int] = {}
        for layer, kind, field, tier, tensor in walk(cache):
            if place(tensor) in counted:
                continue
            counted.add(place(tensor))
            key = (layer, kind, field, tier, place(tensor) in others)
            lines[key] = lines.get(key, 0) + held(tensor)
        layers = list(cache.shared.layers.items())
        return Ledger(
            str(cache.recipe),
            cache.seen,
            tuple(Line(*key[:4], n_bytes, key[4]) for key, n_bytes in lines.items()),
            {i: entries_in(layer.memory) for i, layer in layers},
            tuple(dict.fromkeys(note for _, layer in layers for note in layer.notes())),
            tuple(knobs({i: layer.came_to() for i, layer in layers})),
            {name: sum(map(held, tensors.values())) for name, tensors in cache.shared.fixed.items()},
            {"read": cache.shared.slow.read_bytes, "read in the latest step": cache.shared.slow.step_bytes},
            kernels_of(cache),
        )

    @property
    def nbytes(self) -> int:
        return sum(line.n_bytes for line in self.lines if line.tier != "disk")

    @property
    def disk_bytes(self) -> int:
        """Of entries in files, which are not in `nbytes`."""
        return sum(line.n_bytes for line in self.lines if line.tier == "disk")

    @property
    def fixed_bytes(self) -> int:
        """Of all assets, however many caches read them."""
        return sum(self.assets.values())

    def by_field(self) -> dict[str, int]:
        """Bytes in memory per field over all layers."""
        total: dict[str, int] = {}
        for line in (line for line in self.lines if line.tier != "disk"):
            total[line.field] = total.get(line.field, 0) + line.n_bytes
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        sums = {"nbytes": self.nbytes, "fixed_bytes": self.fixed_bytes, "disk_bytes": self.disk_bytes}
        return {**asdict(self), **sums}


def knobs(found: dict[int, list[str]]) -> Iterator[str]:
    """Every sentence once, behind the layers it is true of."""
    where: dict[str, list[int]] = {}
    for layer, said in found.items():
        for sentence in said:
            where.setdefault(sentence, []).append(layer)
    for sentence, layers in where.items():
        word = "layer" if len(layers) == 1 else "layers"
        yield f"{word} {', '.join(map(str, layers))}: {sentence}"


def kernels_of(cache: KVCache) -> dict[str, str]:
    """Who answers for every kind of segment, over all layers."""
    found: dict[str, dict[str, None]] = {}
    for layer in cache.shared.layers.values():
        if layer.memory is not None and layer.env is not None:
            for kind, kernel in kernels.of(layer.memory, layer.env.geometry):
                found.setdefault(kind, {})[kernel] = None
    return {kind: ", ".join(known) for kind, known in found.items()}


def place(tensor: Tensor) -> int:
    """What tells a storage from all others; what lies in a file has a tensor that stands for it."""
    return id(tensor) if tensor.is_meta else tensor.untyped_storage().data_ptr()


def held(tensor: Tensor) -> int:
    """Bytes of the storage behind a tensor."""
    return int(tensor.untyped_storage().nbytes())


def entries_in(memory: Any) -> int:
    """Entries of one kv head on average, over the writable segments of a memory."""
    if memory is None:
        return 0
    counts = [segment.lengths for segment in writable(memory)]
    own = sum(float(count.float().mean()) for count in counts)
    return round(own) + sum(segment.longest for segment in memory.segments if isinstance(segment, Shared))


def walk(cache: KVCache) -> Iterator[tuple[int, str, str, str, Tensor]]:
    """(layer, segment kind, field, tier, tensor) of everything the cache can reach."""
    for tensor in (*cache.shared.states.values(), *cache.shared.taps.values()):
        yield cache.shared.first, "model", "states", tensor.device.type, tensor
    for i, layer in enumerate(cache.layers):
        if i in cache.shared.layers:
            if layer.memory is not None:
                for kind, (field, tier, tensor) in store.tensors(layer.memory):
                    yield i, kind, field, tier, tensor
            yield from _drafted(i, layer)
        else:
            for name, value in vars(layer).items():
                for tensor in _tensors(value):
                    field = name if name in ("keys", "values") else "states"
                    yield i, "host", field, tensor.device.type, tensor


def _drafted(i: int, layer: Any) -> Iterator[tuple[int, str, str, str, Tensor]]:
    """What is kept only because a draft may be taken back."""
    if layer.draft is None:
        return
    for memory in (layer.draft.before, *(value for value, _ in layer.draft.values)):
        for _, (field, tier, tensor) in store.tensors(memory):
            yield i, "draft", field, tier, tensor
    piece = layer.draft.call.piece
    for tensor in (piece.q, piece.k, piece.v, layer.draft.out, *piece.taps.values()):
        if tensor is not None:
            yield i, "draft", "piece", tensor.device.type, tensor


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def storages(cache: KVCache) -> dict[int, int]:
    """Address → bytes of every distinct storage the cache can reach."""
    reached = (tensor.untyped_storage() for *_, tensor in walk(cache) if not tensor.is_meta)
    return {storage.data_ptr(): storage.nbytes() for storage in reached}


def total(cache: KVCache) -> int:
    """The sum of all distinct storages."""
    return sum(storages(cache).values())
