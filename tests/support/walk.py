"""Bytes by another way than the ledger's: everything that can be reached from an object, whatever it is
called.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from keyvalise import KVCache

_LEAVES = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    torch.dtype,
    torch.device,
    type,
    types.ModuleType,
)


def storages(*roots: Any) -> dict[int, int]:
    """Address → bytes of every distinct tensor storage behind these objects."""
    found = {}
    for tensor in tensors(*roots):
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
    return found


def held_bytes(cache: Any, model: torch.nn.Module) -> int:
    """Bytes that live because of a cache: all that it reaches, less what belongs to the model anyway: its
    weights, and the assets that were made for it.
    """
    assets = cache.shared.fixed if isinstance(cache, KVCache) else {}
    own = storages(*model.parameters(), *model.buffers(), assets)
    return sum(n for address, n in storages(cache).items() if address not in own)


def tensors(*roots: Any) -> Iterator[Tensor]:
    """All tensors reachable through attributes, slots, containers, closures, defaults and bound methods."""
    seen: set[int] = set()
    stack, alive = list(roots), []
    while stack:
        item = stack.pop()
        if isinstance(item, _LEAVES) or id(item) in seen:
            continue
        seen.add(id(item))
        alive.append(item)  # an address is an identity only while the object lives
        if isinstance(item, Tensor):
            yield item
        else:
            stack.extend(_inside(item))


def _inside(item: Any) -> Iterator[Any]:
    if isinstance(item, dict | types.MappingProxyType):
        yield from item.keys()
        yield from item.values()
    elif isinstance(item, list | tuple | set | frozenset):
        yield from item
    elif isinstance(item, types.FunctionType):
        for cell in item.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:
                continue
        yield from item.__defaults__ or ()
    elif isinstance(item, types.MethodType):
        yield from (item.__self__, item.__func__)
    elif isinstance(item, torch.nn.Module):
        yield from (*item.parameters(), *item.buffers())
    else:
        yield from getattr(item, "__dict__", {}).values()
        for kind in type(item).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name != "__weakref__" and (value := getattr(item, name, None)) is not None:
                    yield value
