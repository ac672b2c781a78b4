"""A digest of a model's weights, computed once per model and again for what has changed."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.errors import UnsupportedModel

SAMPLES = 32
"""Numbers of every weight that tell of a change behind autograd's back, through `.data`."""

PIECE = 64 * 2**20
"""Bytes that are brought from a device at once."""

Mark = tuple[Any, ...]

_known: weakref.WeakKeyDictionary[Any, dict[str, tuple[Mark, str]]] = weakref.WeakKeyDictionary()
"""model → name → (mark, digest)"""


def digest(model: Any) -> str:
    """64 hexadecimal digits of the names, dtypes, shapes and bytes of all weights and persistent buffers.

    A weight that was replaced or changed in place is read again, all others are remembered.

    Raises   UnsupportedModel where a weight is not in memory
    """
    own, known = _own(model), _known.setdefault(model, {})
    marks = {name: mark(tensor) for name, tensor in own.items()}
    changed = [name for name in own if known.get(name, (None,))[0] != marks[name]]
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(_of_bytes, (own[name] for name in changed)))
    known.update({name: (marks[name], one) for name, one in zip(changed, found, strict=True)})
    lines = [[name, str(own[name].dtype), list(own[name].shape), known[name][1]] for name in sorted(own)]
    return hashlib.blake2b(json.dumps(lines).encode(), digest_size=32).hexdigest()


def glance(model: Any) -> int:
    """A number that changes when a weight is replaced or changed in place; cheap."""
    return hash(tuple((tensor.data_ptr(), _version(tensor)) for tensor in model.parameters()))


def mark(tensor: Tensor) -> Mark:
    """What changes when a weight is replaced or changed in place."""
    flat = tensor.detach().reshape(-1) if tensor.is_contiguous() else tensor.detach().flatten()
    step = max(flat.numel() // SAMPLES, 1)
    sample = flat[::step].cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return tensor.data_ptr(), _version(tensor), tensor.shape, tensor.stride(), tensor.dtype, sample


def _version(tensor: Tensor) -> int:
    """How often autograd saw the tensor change; inference tensors do not tell."""
    return 0 if tensor.is_inference() else int(tensor._version)


def _own(model: Any) -> Mapping[str, Tensor]:
    """Weights and persistent buffers by name; of tied ones the first name."""
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            continue
        if tensor.is_meta:
            raise UnsupportedModel(
                f"the weight {name} of {type(model).__name__} is not in memory, so nobody can tell which "
                "weights a cache was made with; load the model without offloading"
            )
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor
    return own


def _of_bytes(tensor: Tensor) -> str:
    found = hashlib.blake2b(digest_size=32)
    flat = tensor.detach().reshape(-1)
    step = max(PIECE // max(flat.element_size(), 1), 1)
    for begin in range(0, flat.numel(), step):
        piece = flat[begin : begin + step].cpu().contiguous()
        found.update(piece.view(torch.uint8).numpy().data)
    return found.hexdigest()


def adapters(model: Any) -> tuple[str, ...]:
    """What lies on top of the weights and may be switched on and off without changing any."""
    found = set()
    for module in model.modules():
        active = getattr(module, "active_adapters", None)
        if isinstance(active, list | tuple):
            is_off = bool(getattr(module, "disable_adapters", False))
            found |= {f"{name} (off)" if is_off else str(name) for name in active}
    return tuple(sorted(found))
