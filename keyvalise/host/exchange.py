"""Content of other caches, in and out: transformers' own, and tensors that other tools have kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer

from keyvalise.host.layer import MemoryLayer
from keyvalise.store import flat, tokens
from keyvalise.store.chosen import packed
from keyvalise.store.roll import Roll
from keyvalise.types.data import Entries, Memory
from keyvalise.types.errors import HostError, InputError

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache

Kept = Tensor | Sequence[Sequence[Tensor]]
"""[B, H, T, …], or [row][kv head] → [T, …] with a T for every head."""


def take_dynamic(made: KVCache, cache: Cache) -> None:
    """Fill a new cache with the content of transformers' own, as a prompt that has just ended."""
    for index, layer in enumerate(cache.layers):
        own = made.shared.layers.get(index)
        if own is None:
            made.layers[index] = copy.deepcopy(layer)
        elif layer.is_initialized and layer.get_seq_length():
            own.take_over(layer.keys, layer.values)


def take_kept(
    made: KVCache,
    keys: Sequence[Kept],
    values: Sequence[Kept],
    positions: Sequence[Kept],
    seen: int | Sequence[int],
) -> None:
    """Fill a new cache with what another tool has kept of `seen` tokens, all layers alike.

    Raises   InputError where something does not fit together or to the model
    """
    others = [i for i in range(len(made.layers)) if i not in made.shared.layers]
    if others:
        raise InputError(
            f"layer {others[0]} is a {type(made.layers[others[0]]).__name__} of the model's own, and kept "
            "tokens do not tell what it holds"
        )
    layers = list(made.shared.layers.values())
    for what, given in (("keys", keys), ("values", values), ("positions", positions)):
        if len(given) != len(layers):
            raise InputError(f"{what} are given for {len(given)} layers, the model has {len(layers)}")
    for layer, k, v, at in zip(layers, keys, values, positions, strict=True):
        try:
            _take(layer, _lists(k), _lists(v), _lists(at), seen)
        except InputError as error:
            raise error.at(f"layer {layer.index}") from None


def _lists(given: Kept) -> list[list[Tensor]]:
    return [list(row) for row in given]


def _take(
    layer: MemoryLayer,
    keys: list[list[Tensor]],
    values: list[list[Tensor]],
    positions: list[list[Tensor]],
    seen: int | Sequence[int],
) -> None:
    shape = layer.shared.geometry
    clock = (seen,) * len(keys) if isinstance(seen, int) else tuple(seen)
    per_row = {len(row) for rows in (keys, values, positions) for row in rows}
    if not len(keys) == len(values) == len(positions) == len(clock):
        raise InputError(f"keys, values, positions and seen must have as many rows, got {len(keys)} of keys")
    if per_row != {shape.n_kv_heads}:
        raise InputError(f"the model has {shape.n_kv_heads} kv heads, got {sorted(per_row)}")
    runs = [
        _run(*head, clock[row])
        for row, heads in enumerate(zip(keys, values, positions, strict=True))
        for head in zip(*heads, strict=True)
    ]
    places = [torch.cat([run[i] for run in runs]).to(layer.shared.device(layer.index)) for i in range(3)]
    all_keys, all_values, ordinals = places
    if (all_keys.shape[1], all_values.shape[1]) != (shape.key_dim, shape.value_dim):
        got = f"{all_keys.shape[1]} and {all_values.shape[1]}"
        raise InputError(f"keys and values have {shape.key_dim} and {shape.value_dim} numbers, got {got}")
    counts = tuple(len(run[2]) for run in runs)
    if layer.shared.seam == "dense" and any(n != clock[i // shape.n_kv_heads] for i, n in enumerate(counts)):
        raise InputError("this model computes its own masks, so tokens cannot be missing")
    run = flat.Flat(
        (len(keys), shape.n_kv_heads),
        counts,
        all_keys.to(shape.dtype),
        all_values.to(shape.dtype),
        ordinals,
        None,
        {},
    )
    env, river = layer.shared.around(layer.index, shape, all_keys.device)
    layer.begin(Memory((packed(run, clock, river.angle),), {}, clock, clock), env, river)
    layer.columns = max(clock)


def _run(keys: Tensor, values: Tensor, positions: Tensor, seen: int) -> tuple[Tensor, Tensor, Tensor]:
    """One head's entries in the order of their positions; those at −1 are none."""
    if not (keys.ndim == values.ndim == 2 and positions.shape == keys.shape[:1] == values.shape[:1]):
        got = f"{list(keys.shape)}, {list(values.shape)} and {list(positions.shape)}"
        raise InputError(f"every head has keys [T, D], values [T, D] and positions [T], got {got}")
    live = positions >= 0
    order = positions[live].argsort()
    ordinals = positions[live][order].int()
    if bool((ordinals[1:] == ordinals[:-1]).any()) or bool((ordinals >= seen).any()):
        raise InputError(f"positions of a head must differ and lie below {seen}, the tokens seen")
    return keys[live][order], values[live][order], ordinals


def to_dynamic(cache: KVCache, attention_mask: Tensor | None = None) -> DynamicCache:
    """What a cache holds, as transformers' own."""
    cache.settle()
    own, made = cache.shared.layers, DynamicCache()
    held = tokens.laid_open({i: layer.memory for i, layer in own.items() if layer.memory is not None})
    made.layers = [
        _dynamic(own[i], held.get(i), attention_mask) if i in own else copy.deepcopy(layer)
        for i, layer in enumerate(cache.layers)
    ]
    return made


def _dynamic(layer: MemoryLayer, memory: Memory | None, mask: Tensor | None) -> DynamicLayer:
    made = DynamicLayer()
    if memory is None:
        return made
    clock, width = memory.clock, layer.columns
    entries = Roll.of(memory).entries
    _check_whole(layer, memory, entries)
    if mask is None and min(clock) < width:
        raise InputError(
            f"a row has seen {min(clock)} tokens in {width} columns; pass the attention mask, which says "
            "where they stand"
        )
    keys, values = (x.to(layer.shared.dtype) for x in (entries.keys(), entries.values()))
    if mask is not None:
        real = mask.bool().to(keys.device)
        if real.shape != (len(clock), width) or tuple(real.sum(-1).tolist()) != clock:
            raise InputError(f"the attention mask must mark {list(clock)} tokens in {width} columns")
        keys, values = _laid(keys, real, clock), _laid(values, real, clock)
    made.update(keys, values)
    return made


def _check_whole(layer: MemoryLayer, memory: Memory, entries: Entries) -> None:
    """Raise HostError where something is held that a DynamicCache cannot say."""
    lengths, n_heads = entries.lengths.tolist(), entries.lengths.shape[1]
    for row, (counts, seen) in enumerate(zip(lengths, memory.clock, strict=True)):
        if counts == [seen] * n_heads:
            continue
        held = f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
        raise HostError(
            f"layer {layer.index} holds {held} of the {seen} tokens of row {row}; a DynamicCache takes what "
            "it holds for all there was, so nothing can be missing"
        )
    has_sketch = any(segment.kind == "sketch" for segment in memory.segments)
    if has_sketch or (entries.logw is not None and bool((entries.logw[entries.live] != 0).any())):
        raise HostError(f"layer {layer.index} holds weighted entries, which a DynamicCache cannot hold")


def _laid(x: Tensor, real: Tensor, clock: tuple[int, ...]) -> Tensor:
    """[B, H, T, D] with every row's tokens in its real columns, zeros in the others."""
    laid = x.new_zeros((*x.shape[:2], real.shape[1], x.shape[3]))
    for row, n in enumerate(clock):
        laid[row, :, real[row]] = x[row, :, :n]
    return laid
