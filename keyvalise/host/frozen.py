"""A cache as a header and named tensors: everything that decides what it would answer next.

Codes are written as the words of a recipe, never as objects; what the model itself holds (weights, learned
sinks, assets) is named by digests and taken from the model when the cache is read again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from keyvalise.host import identity, weights
from keyvalise.host import model as models
from keyvalise.host.identity import Identity
from keyvalise.host.layer import MemoryLayer
from keyvalise.recipe import json, words
from keyvalise.recipe.reader import Reader
from keyvalise.recipe.turned import Turned, parts_of
from keyvalise.store import streamed
from keyvalise.store.ragged import Ragged
from keyvalise.store.state import Writer
from keyvalise.store.streamed import Raw
from keyvalise.store.tail import Tail
from keyvalise.types.data import Env, Memory
from keyvalise.types.errors import CacheFileError, InputError

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache

Tokens = Tensor | Sequence[int] | Sequence[Sequence[int]]
"""Token ids of one row, or of several: lists, or a tensor [N] or [B, N]."""


@dataclass(frozen=True)
class Owner:
    """What the store leaves to the host: codes are written by their words, a layer's surroundings not at all.

    env   of the layer that is read
    """

    env: Env | None = None

    def write(self, value: Any) -> Any:
        if isinstance(value, Env):
            return {"env": None}
        if getattr(value, "room", None) == "encode":
            return {"code": [words.to_dict(part) for part in parts_of(value)]}
        if isinstance(value, Reader):
            return {"reader": [words.to_dict(part) for part in value.parts]}
        raise TypeError(type(value).__name__)

    def read(self, data: Any) -> Any:
        if "env" in data:
            return self.env
        if "reader" in data:
            return json.reader_of(data["reader"])
        *turns, code = map(words.from_dict, data["code"])
        return Turned(tuple(turns), code) if turns else code


def described(
    cache: KVCache,
    *,
    tokenizer: Any = None,
    tokens: Tokens | None = None,
    salt: str = "",
    edits: Sequence[str] = (),
    level: str | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(header, parts) of a cache; what was drafted last is taken to stay.

    level   of the streams that the parts are written as (`store.stream.LEVELS`); None: written as they are

    Raises   TornForward where a forward stopped half way; CacheFileError where the model has gone or changed,
             or a layer holds what cannot be stored; InputError for tokens that are not those seen
    """
    shared = cache.shared
    model = _model(cache)
    cache.settle()
    for layer in shared.layers.values():
        layer.confirm()
    writer = Writer(Owner())
    header = {
        "recipe": str(cache.recipe),
        "stages": cache.recipe.to_json(),
        "model": Identity.of(model, tokenizer).to_dict(),
        "salt": salt,
        "edits": list(edits),
        "assets": identity.of_assets(shared.fixed),
        "tokens": _tokens(cache, tokens, writer),
        "seen": cache.seen if shared.layers else 0,
        "dtype": str(shared.geometry.dtype).removeprefix("torch."),
        "prefill_chunk": shared.prefill_chunk,
        "seed": shared.seed,
        "prompt_columns": shared.prompt_columns,
        "is_drafting": shared.is_drafting,
        "spans": {name: list(span) for name, span in shared.spans.items()},
        "states": writer.write(shared.states, "states"),
        "layers": {
            str(i): _layer(shared.layers[i], shared.ropes.get(i), writer)
            if i in shared.layers
            else _host_layer(i, layer, models.host_layers(model)[i], writer)
            for i, layer in enumerate(cache.layers)
        },
    }
    if level is None:
        return header, writer.parts
    return streamed.packed(header, writer.parts, _raws(cache, writer.parts.get("tokens")), level)


def _raws(cache: KVCache, tokens: Tensor | None) -> list[Raw]:
    """Every run of raw entries, with the token behind each where one row was told."""
    found = []
    for i, layer in cache.shared.layers.items():
        if layer.memory is None:
            continue
        for j, segment in enumerate(_unsunk(layer.memory).segments):
            if not isinstance(segment, Tail | Ragged):
                continue
            place = f"layers.{i}.segments.{j}" + (".arena" if isinstance(segment, Tail) else "")
            at = _ordinals(segment)
            ids = tokens[at.long()].int() if tokens is not None and len(layer.memory.clock) == 1 else None
            found.append(Raw(f"{place}.keys", f"{place}.values", at, ids, cache.shared.ropes.get(i)))
    return found


def _ordinals(segment: Tail | Ragged) -> Tensor:
    """int32 [N] where all heads hold the same tokens, else [heads, N]; zeros where nothing stands."""
    if isinstance(segment, Ragged):
        return segment.places.all().int().cpu()
    heads = segment.entries().ordinals.clamp(min=0).flatten(0, 1).int().cpu()
    return heads[0] if bool((heads == heads[0]).all()) else heads


def _model(cache: KVCache) -> Any:
    """The model that a cache was made for, whose weights must still be the same."""
    cache.shared.check_whole()
    model = cache.shared.model()
    if model is None:
        raise CacheFileError("the model that this cache was made for is gone; store a cache while it lives")
    if weights.glance(model) != cache.shared.glance:
        raise CacheFileError(
            f"the weights of {type(model).__name__} were changed or moved after this cache was made, so "
            "nobody can tell what it was made with; make it again"
        )
    return model


def _tokens(cache: KVCache, tokens: Tokens | None, writer: Writer) -> list[int] | None:
    """How many tokens every row has seen; the ids go into a part of their own."""
    if tokens is None:
        return None
    given: Any = tokens.tolist() if isinstance(tokens, Tensor) else list(tokens)
    rows = [given] if all(isinstance(one, int) for one in given) else given
    counts = tuple(map(len, rows))
    clocks = {layer.memory.clock for layer in cache.shared.layers.values() if layer.memory is not None}
    if clocks and clocks != {counts}:
        raise InputError(
            f"the tokens given have rows of {list(counts)}, the cache has seen {list(next(iter(clocks)))}"
        )
    ids = torch.tensor([one for row in rows for one in row], dtype=torch.int64)
    writer.write(ids, "tokens")
    return list(counts)


def _layer(layer: MemoryLayer, rope: Any, writer: Writer) -> dict[str, Any]:
    """A layer that follows the recipe."""
    data: dict[str, Any] = {"columns": layer.columns}
    if layer.memory is None or layer.env is None:
        return data
    name = f"layers.{layer.index}"
    return {
        **data,
        "geometry": writer.write(layer.env.geometry, f"{name}.geometry"),
        "rope": writer.write(rope, f"{name}.rope"),
        "memory": writer.write(_unsunk(layer.memory), name),
    }


def _host_layer(index: int, layer: Any, fresh: Any, writer: Writer) -> dict[str, Any]:
    """A layer of the host's own: what it holds beyond a fresh one."""
    before, values = vars(fresh), {}
    for name, value in vars(layer).items():
        is_plain = value is None or isinstance(value, bool | int | float | str)
        if is_plain or isinstance(value, Tensor | Mapping | tuple | list | torch.dtype | torch.device):
            values[name] = writer.write(value, f"layers.{index}.{name}")
        elif type(before.get(name)) is not type(value):
            raise CacheFileError(
                f"layer {index} ({type(layer).__name__}) holds a {type(value).__name__} under {name!r}, "
                "which cannot be stored in a file"
            )
    return {"type": type(layer).__name__, "values": values}


def _unsunk(memory: Memory) -> Memory:
    """Without what stands for the model's own learned sinks."""
    return replace(memory, segments=tuple(one for one in memory.segments if one.kind != "null"))
