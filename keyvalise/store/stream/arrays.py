"""Any tensors by name, bit for bit: codes, scales, positions, log-weights of what a segment holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from keyvalise.store.stream import damage, frame, plain
from keyvalise.store.stream.frame import Frame, Tag
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream, InputError

KINDS = {
    torch.bool: "<u1",
    torch.uint8: "<u1",
    torch.int8: "<i1",
    torch.int16: "<i2",
    torch.int32: "<i4",
    torch.int64: "<i8",
    torch.float16: "<f2",
    torch.bfloat16: "<u2",
    torch.float32: "<f4",
    torch.float64: "<f8",
}
"""What may be written, and as which numbers of numpy."""

_NAMES = {str(dtype).removeprefix("torch."): dtype for dtype in KINDS}
_MOST_AXES, _MOST_LENGTH = 8, 2**40


def holds(tensor: Tensor) -> bool:
    """Whether a stream of arrays can hold a tensor's numbers."""
    return tensor.dtype in KINDS


def write_arrays(tensors: Mapping[str, Tensor]) -> bytes:
    """A stream of tensors.

    Raises   InputError for a dtype that no stream can hold
    """
    for name, tensor in tensors.items():
        if not holds(tensor):
            raise InputError(f"{name} is {tensor.dtype}; a stream can hold {', '.join(_NAMES)}")
    specs = [[name, str(x.dtype).removeprefix("torch."), list(x.shape)] for name, x in tensors.items()]
    begin, key = frame.begin(json.dumps({"arrays": specs}, separators=(",", ":")).encode())
    out = [begin]
    for i, tensor in enumerate(tensors.values()):
        payload = Writer()
        plain.write(payload, _numbers(tensor))
        out.append(Frame(Tag.PLAIN, bytes(payload.data), i).seal(key))
    return b"".join(out)


def read_arrays(data: bytes, *, most_bytes: int = 2**34) -> dict[str, Tensor]:
    """The tensors again, in the order they were written.

    Raises   DamagedStream
    """
    specs: list[tuple[str, torch.dtype, tuple[int, ...]]] = []
    found: dict[str, Tensor] = {}
    for one in frame.parse(data):
        if one.tag is Tag.HEADER:
            specs = _specs(one.payload, most_bytes)
            continue
        if one.tag is not Tag.PLAIN or one.layer != len(found) or one.layer >= len(specs):
            raise DamagedStream("a tensor of the stream is not where its header says")
        name, dtype, shape = specs[one.layer]
        with damage.of_frame():
            found[name] = _tensor(one.payload, dtype, shape)
    if len(found) != len(specs):
        raise DamagedStream(
            f"{len(specs) - len(found)} of the {len(specs)} tensors of the stream are missing"
        )
    return found


def _numbers(x: Tensor) -> Any:
    flat = x.detach().cpu().contiguous()
    if x.dtype is torch.bfloat16:
        flat = flat.view(torch.uint16)
    return flat.numpy().astype(KINDS[x.dtype], copy=False)


def _tensor(payload: bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    source = Reader(payload)
    numbers = torch.from_numpy(plain.read(source, shape, np.dtype(KINDS[dtype])))
    source.finish()
    return numbers.view(dtype) if dtype is torch.bfloat16 else numbers.to(dtype)


def _specs(header: bytes, most_bytes: int) -> list[tuple[str, torch.dtype, tuple[int, ...]]]:
    with damage.of_header():
        specs = [
            (str(name), _NAMES[dtype], tuple(int(n) for n in shape))
            for name, dtype, shape in json.loads(header)["arrays"]
        ]
    for _, _, shape in specs:
        if len(shape) > _MOST_AXES or any(not 0 <= n < _MOST_LENGTH for n in shape):
            raise DamagedStream(f"a tensor of the stream has the impossible shape {shape}")
    size = sum(int(np.prod(shape, dtype=object)) * dtype.itemsize for _, dtype, shape in specs)
    damage.check_room(size, most_bytes)
    if len({name for name, _, _ in specs}) != len(specs):
        raise DamagedStream("two tensors of the stream have the same name")
    return specs
