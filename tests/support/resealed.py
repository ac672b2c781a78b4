"""Whole streams of a tiny sheet with other frames, proven whole again, and read."""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from keyvalise.ops import energy
from keyvalise.store import stream
from keyvalise.store.stream import frame, short
from keyvalise.store.stream.frame import Frame, Tag
from keyvalise.store.stream.sheet import Sheet
from keyvalise.store.stream.wire import Writer
from keyvalise.types.geometry import Rope

N, DIM = 7, 4
SHALLOW, DEEP, LAST = 0, 1, 2
"""Rungs: one that stands alone, one that refines it, and the one that an exact part follows."""


@functools.cache
def sheet() -> Sheet:
    """A sheet without ids: keys too few to be turned, values of one loud direction and a faint one."""
    g = torch.Generator().manual_seed(0)
    loud, faint = torch.randn(N, 1, generator=g), torch.randn(N, 1, generator=g) / 3
    values = loud * torch.tensor([1.0, 1, 1, 1]) + faint * torch.tensor([1.0, -1, 1, -1])
    rope = Rope(torch.tensor([1.0, 0.01]), False)
    keys = torch.randn(1, N, DIM, generator=g)
    return Sheet(keys.bfloat16(), values[None].bfloat16(), torch.arange(N).int(), None, rope)


@functools.cache
def whole() -> bytes:
    """Its stream, every level a beginning of the next."""
    return stream.write([sheet()], "lossless", is_progressive=True)


def read(change: Callable[[list[Frame]], list[Frame]], **options: Any) -> Callable[[], Any]:
    """The stream with other frames, read."""
    return lambda: stream.read(sealed(change(list(frame.parse(whole())))), **options)


def sealed(frames: list[Frame]) -> bytes:
    """Frames that prove whole, the header first."""
    begin, key = frame.begin(frames[0].payload)
    return begin + b"".join(one.seal(key) for one in frames[1:])


def at(frames: list[Frame], tag: Tag, rung: int = SHALLOW, kind: int = 0) -> int:
    """Where the first frame of a kind stands; kind: 0 keys, 1 values."""
    return next(i for i, one in enumerate(frames) if (one.tag, one.kind, one.rung) == (tag, kind, rung))


def with_frame(tag: Tag, rung: int = SHALLOW, kind: int = 0, **fields: Any) -> Callable[[], Any]:
    """The stream with one frame that says something else."""

    def change(frames: list[Frame]) -> list[Frame]:
        i = at(frames, tag, rung, kind)
        return [*frames[:i], dataclasses.replace(frames[i], **fields), *frames[i + 1 :]]

    return read(change)


def without(tag: Tag) -> Callable[[], Any]:
    """The stream without its first frame of a kind."""

    def change(frames: list[Frame]) -> list[Frame]:
        i = at(frames, tag)
        return frames[:i] + frames[i + 1 :]

    return read(change)


def twice(tag: Tag, rung: int = SHALLOW) -> Callable[[], Any]:
    """The stream with its first frame of a kind twice."""

    def change(frames: list[Frame]) -> list[Frame]:
        i = at(frames, tag, rung)
        return [*frames[: i + 1], *frames[i:]]

    return read(change)


def with_header(change: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
    """The stream with another header."""

    def changed(frames: list[Frame]) -> list[Frame]:
        parts = json.loads(zlib.decompress(frames[0].payload))
        change(parts)
        return [Frame(Tag.HEADER, zlib.compress(json.dumps(parts).encode())), *frames[1:]]

    return read(changed)


def with_layer(**fields: Any) -> Callable[[], Any]:
    """The stream with another description of its layer."""
    return with_header(lambda parts: parts["layers"][0].update(fields))


def with_text(payload: bytes) -> Callable[[], Any]:
    """The stream with anything as its header."""
    return read(lambda frames: [Frame(Tag.HEADER, payload), *frames[1:]])


def wired(*parts: int | bytes | list[list[int]]) -> bytes:
    """A payload of numbers, bytes as they are, and short rows."""
    out = Writer()
    for part in parts:
        if isinstance(part, int):
            out.number(part)
        elif isinstance(part, bytes):
            out.data += part
        else:
            short.write(out, [np.array(row, np.int64) for row in part])
    return bytes(out.data)


def codes(*parts: int | bytes | list[list[int]], rung: int = SHALLOW) -> Callable[[], Any]:
    """The stream with other codes of its keys, behind centres of 0."""
    return with_frame(Tag.CODES, rung, payload=wired(b"\0\0", *parts))


def tables(table: int, low: int = 0) -> list[list[int]]:
    """What stands before codes that stand alone: a table and low bits of every channel, shifts."""
    return [[table] * DIM, [low] * DIM, [0] * energy.CLASSES]


def side(mean: float, width: int, *parts: int | bytes | list[list[int]]) -> Callable[[], Any]:
    """The stream with another mean and other blocks of its keys."""
    begin = np.full(DIM, mean, "<f2").tobytes() + np.ones(1, "<f4").tobytes()
    return with_frame(Tag.SIDE, payload=wired(begin, width, *parts))


def unknown_frame() -> bytes:
    """A frame of no known kind, proven whole."""
    body = wired(9, 0, 0, 0, 0, 0)
    return body + frame.digest(body, b"")


def rows(*parts: int | bytes | list[list[int]]) -> Callable[[], Any]:
    """The stream with entries that repeat otherwise."""
    return with_frame(Tag.ROWS, payload=wired(*parts))


def arrays(specs: Any, *payloads: bytes, tag: Tag = Tag.PLAIN, most_bytes: int = 99) -> Callable[[], Any]:
    """Tensors with any header and any payloads, read."""
    frames = [Frame(tag, payload, i) for i, payload in enumerate(payloads)]
    header = Frame(Tag.HEADER, json.dumps({"arrays": specs}).encode())
    return lambda: stream.read_arrays(sealed([header, *frames]), most_bytes=most_bytes)


def octets(*body: int | bytes | list[list[int]]) -> Callable[[], Any]:
    """A tensor of three bytes with any payload, read."""
    data = wired(*body)
    return arrays([["x", "uint8", [3]]], wired(len(data), data))
