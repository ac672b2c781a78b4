"""A stored cache as dense tensors that other tools can read; needs no model, unless a code reads its assets.

layers.0.keys        [B, H, T, D]   zeros where nothing stands, codes as what they stand for
layers.0.values      [B, H, T, Dv]
layers.0.positions   int32 [B, H, T], −1 where nothing stands
layers.0.logw        float32 [B, H, T], where entries are weighted
layers.0.demoted.…   the same of entries that a stage keeps apart in a code of their own
layers.0.sketch.…    keys, values and weights of what stands for dropped entries; it has no positions
layers.0.…           whatever else the model's own layers hold, under their names for it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import thawed
from keyvalise.host.cache import KVCache
from keyvalise.store import tokens
from keyvalise.store.demoted import Demoted
from keyvalise.store.file import Stored
from keyvalise.store.roll import Roll
from keyvalise.store.sketched import Sketched
from keyvalise.types.data import Entries, Memory
from keyvalise.types.errors import InputError


def dense(stored: Stored, model: Any = None) -> dict[str, Tensor]:
    """name → tensor of everything that a stored cache holds.

    Raises   InputError where a code cannot be read without its model; Damaged, OtherModel
    """
    memories = thawed.alone(stored) if model is None else _with(stored, model)
    try:
        found = {
            f"layers.{layer}.{name}": tensor
            for layer, memory in tokens.laid_open(memories).items()
            for name, tensor in _of(memory)
        }
    except KeyError:
        how = "can be read with its model alone; name the model"
        raise InputError(f"{stored.what} is in a code that {how}") from None
    own = tuple(f"layers.{layer}." for layer in memories)
    found |= {name: stored.read(name) for name in stored.names if not name.startswith(own)}
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _with(stored: Stored, model: Any) -> dict[int, Memory]:
    cache = KVCache.of_stored(stored, model)
    return {i: layer.memory for i, layer in cache.shared.layers.items() if layer.memory is not None}


def _of(memory: Memory) -> Iterator[tuple[str, Tensor]]:
    yield from _listed(Roll.of(memory).entries)
    for segment in memory.segments:
        if isinstance(segment, Sketched):
            held = segment.whole()
            mark = f"sketch.{segment.act}"
            yield f"{mark}.keys", held.keys
            yield f"{mark}.values", held.values
            yield f"{mark}.logw", held.logw
        if isinstance(segment, Demoted):
            for name, tensor in _listed(segment.held.entries()):
                is_scaled = name == "keys" and segment.balance is not None
                yield f"demoted.{name}", tensor / segment.balance[:, :, None] if is_scaled else tensor  # type: ignore[index]


def _listed(entries: Entries) -> Iterator[tuple[str, Tensor]]:
    live = entries.live[..., None]
    yield "keys", torch.where(live, entries.keys(), 0)
    yield "values", torch.where(live, entries.values(), 0)
    yield "positions", entries.ordinals.int()
    if entries.logw is not None:
        yield "logw", entries.logw
