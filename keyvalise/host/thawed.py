"""A stored cache back in memory: first whether it belongs to this model, then layer by layer.

Whatever differs is refused with what differs; nothing is guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from keyvalise.host import identity, unread
from keyvalise.host.frozen import Owner
from keyvalise.host.identity import Identity
from keyvalise.host.layer import MemoryLayer
from keyvalise.recipe.object import Recipe
from keyvalise.store import indexing, sound
from keyvalise.store.file import Stored
from keyvalise.store.state import Reader
from keyvalise.types.data import Env, Memory
from keyvalise.types.errors import Damaged, FutureVersion, KeyvaliseError, OtherModel
from keyvalise.types.geometry import Geometry

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache

FIELDS = frozenset(
    """recipe stages model salt edits assets tokens seen dtype prefill_chunk seed prompt_columns is_drafting
    spans states layers""".split()
)
"""What a header says."""


@dataclass(frozen=True)
class Origin:
    """What a file says of the cache that was read from it.

    tokens   that every row had seen, None where whoever stored it did not say
    """

    tokens: tuple[tuple[int, ...], ...] | None
    salt: str
    edits: tuple[str, ...]
    identity: Identity


def origin(stored: Stored) -> Origin:
    """Where a stored cache comes from.

    Raises   Damaged where the file does not say
    """
    header = stored.header
    missing = sorted(FIELDS - header.keys())
    if missing:
        raise Damaged(f"the header of {stored.what} does not say {missing[0]!r}")
    with _told(stored):
        made = Identity.from_dict(header["model"])
        if made.layout > identity.LAYOUT:
            raise FutureVersion(
                f"{stored.what} has layout {made.layout}; this library reads layout {identity.LAYOUT}"
            )
        return Origin(_tokens(stored), header["salt"], tuple(header["edits"]), made)


@contextmanager
def _told(stored: Stored) -> Iterator[None]:
    """A header that was not written by this library is damaged, whatever is wrong with it."""
    try:
        yield
    except KeyvaliseError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        raise Damaged(
            f"the header of {stored.what} cannot be understood: {type(error).__name__} {error}"
        ) from None


def _tokens(stored: Stored) -> tuple[tuple[int, ...], ...] | None:
    counts = stored.header["tokens"]
    if counts is None:
        return None
    return tuple(tuple(row.tolist()) for row in stored.read("tokens").split(counts))


def check(
    stored: Stored, model: Any, tokenizer: Any, salt: str | None, edits: Sequence[str] | None
) -> Origin:
    """Where a stored cache comes from, which must be this model; None: not compared.

    Raises   OtherModel, with what differs
    """
    made = origin(stored)
    found = made.identity.differences(Identity.of(model, tokenizer))
    if edits is not None and tuple(edits) != made.edits:
        found.append(f"edits: {list(made.edits)} in the file, {list(edits)} asked for")
    if salt is not None and salt != made.salt:
        found.append("its salt is another one")
    if found:
        more = f"; and {len(found) - identity.SHOWN} more" if len(found) > identity.SHOWN else ""
        raise OtherModel(f"{stored.what} is not of this model: {'; '.join(found[: identity.SHOWN])}{more}")
    return made


def settings(stored: Stored) -> dict[str, Any]:
    """What a cache is made with.

    Raises   Damaged where the file does not say; RecipeError for a recipe that is not known here
    """
    with _told(stored):
        try:
            recipe = Recipe.from_json(stored.header["stages"])
        except KeyvaliseError as error:
            raise error.at(f"the recipe of {stored.what}") from None
        plain = {name: stored.header[name] for name in ("prefill_chunk", "seed")}
        return {"recipe": recipe, "dtype": getattr(torch, stored.header["dtype"]), **plain}


def fill(cache: KVCache, stored: Stored, is_lazy: bool) -> None:
    """Give a new cache what was stored.

    Raises   OtherModel where an asset has other content; Damaged where a part is not what was written
    """
    mine, theirs = identity.of_assets(cache.shared.fixed), stored.header.get("assets")
    if mine != theirs:
        names = ", ".join(sorted(set(mine) | set(theirs or ())))
        raise OtherModel(f"{stored.what} was made with other assets than those kept for this model: {names}")
    with _told(stored):
        _fill(cache, stored, is_lazy)


def _fill(cache: KVCache, stored: Stored, is_lazy: bool) -> None:
    shared, header = cache.shared, stored.header
    shared.prompt_columns, shared.is_drafting = header["prompt_columns"], header["is_drafting"]
    shared.spans = {name: (span[0], span[1]) for name, span in header["spans"].items()}
    for i, layer in enumerate(cache.layers):
        if i in shared.layers:
            _fill_layer(shared.layers[i], stored, is_lazy)
        else:
            _fill_host_layer(i, layer, stored, shared.device(i))
    reader = Reader(Owner(), stored.read, shared.device(0))
    shared.states = reader.read(header["states"], f"{stored.what}: states")


def _fill_layer(layer: MemoryLayer, stored: Stored, is_lazy: bool) -> None:
    device, data = layer.shared.device(layer.index), stored.header["layers"][str(layer.index)]
    layer.columns = data["columns"]
    if "memory" not in data:
        return
    geometry: Geometry = Reader(Owner(), stored.read, device).read(data["geometry"], stored.what)
    env, river = layer.shared.around(layer.index, geometry, device)
    read = functools.cache(
        lambda: indexing.placed(memory(stored, layer.index, env, device), layer.shared.slow)
    )
    if is_lazy:
        unread.defer(layer, read, env, river)
    else:
        layer.begin(read(), env, river)


def memory(stored: Stored, index: int, env: Env, device: torch.device) -> Memory:
    """What a layer held.

    Raises   Damaged where a part is not what was written
    """
    data, what = stored.header["layers"][str(index)]["memory"], f"layer {index} of {stored.what}"
    made: Memory = Reader(Owner(env), stored.read, device).read(data, what)
    with _told(stored):
        sound.check(made, env.geometry, what)
    return made


def alone(stored: Stored) -> dict[int, Memory]:
    """What the layers of a stored cache hold, without the model: layer → memory.

    Raises   Damaged where a part is not what was written
    """
    found, cpu = {}, torch.device("cpu")
    with _told(stored):
        layers = {int(i): data for i, data in stored.header["layers"].items() if "columns" in data}
        for number, (index, data) in enumerate(layers.items()):
            if "memory" in data:
                reader = Reader(Owner(), stored.read, cpu)
                geometry, rope = (reader.read(data[name], stored.what) for name in ("geometry", "rope"))
                env = Env(number, geometry, rope, stored.header["seed"])
                found[index] = memory(stored, index, env, cpu)
    return found


def _fill_host_layer(index: int, layer: Any, stored: Stored, device: torch.device) -> None:
    data = stored.header["layers"][str(index)]
    if data["type"] != type(layer).__name__:
        raise OtherModel(
            f"layer {index} of {stored.what} is a {data['type']}, here it is a {type(layer).__name__}"
        )
    reader = Reader(Owner(), stored.read, device)
    for name, value in data["values"].items():
        setattr(layer, name, reader.read(value, f"layer {index} of {stored.what}"))
