"""Streams, sheets and links that are refused, with a piece of the sentence that says so."""

from __future__ import annotations

import dataclasses
import socket
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from keyvalise.ops import energy
from keyvalise.store import stream
from keyvalise.store.stream.controller import Catalogue, Controller
from keyvalise.store.stream.fetch import fetch
from keyvalise.store.stream.frame import MAGIC, Tag
from keyvalise.store.stream.link import Server, SocketLink, VirtualLink
from keyvalise.store.stream.shelf import Shelf
from keyvalise.types.errors import BadArgument, DamagedStream, InputError, UnknownName
from keyvalise.types.geometry import Rope
from tests.support.resealed import (
    DEEP,
    DIM,
    LAST,
    N,
    arrays,
    at,
    codes,
    octets,
    read,
    rows,
    sheet,
    side,
    tables,
    twice,
    unknown_frame,
    whole,
    wired,
    with_frame,
    with_header,
    with_layer,
    with_text,
    without,
)


def write(level: str = "medium", **other: Any) -> Callable[[], Any]:
    """A sheet that differs in something, written."""
    return lambda: stream.write([dataclasses.replace(sheet(), **other)], level)


def broken(end: float) -> torch.Tensor:
    """Keys of which one number is not finite."""
    keys = sheet().keys.clone()
    keys[0, 3, 2] = end
    return keys


def on_shelf(name: str) -> Callable[[], Any]:
    """A blob that is asked for by name."""
    return lambda: Shelf([sheet()]).blob(name)


def over_sockets(name: str) -> Callable[[], Any]:
    """The same over a link."""

    def call() -> None:
        with Server(Shelf([sheet()]).blob, 1e6) as server, SocketLink(server.address) as link:
            link.fetch(name)

    return call


def nobody() -> None:
    """A link to a server that has gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    SocketLink(address)


def hung_up() -> None:
    """A link whose other end goes."""
    with socket.create_server(("127.0.0.1", 0)) as server, SocketLink(server.getsockname()) as link:
        server.accept()[0].close()
        link.fetch("head")


def from_another_shelf() -> None:
    """A link over which two rows come mixed."""
    one, other = Shelf([sheet()]), Shelf([dataclasses.replace(sheet(), offset=1)])
    link = VirtualLink(lambda name: (one if name == "head" else other).blob(name), [(1, 1e6)])
    fetch(link, Controller(1))


X = ["x", "uint8", [3]]
NUMBERS = wired(4, b"\6abc")
"""Its payload: three bytes as they are."""

ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    DamagedStream: [
        (lambda: stream.read(b"a poem" * 9), "this is no stream of keys and values: its first bytes are"),
        (lambda: stream.read(MAGIC), "the stream has no header"),
        (lambda: stream.read(MAGIC + b"\xff"), "the stream ends within a number"),
        (lambda: stream.read(MAGIC + b"\xff" * 9), "a number of the stream does not end"),
        (lambda: stream.read(MAGIC + wired(2**21)), "the stream says 2097152 where at most 1048576 makes"),
        (lambda: stream.read(whole()[:-5]), "the stream ends 5 bytes too early"),
        (lambda: stream.read(whole()[:-1] + b"\0"), "a frame of the stream was changed (byte "),
        (from_another_shelf, "a frame of the stream was changed (byte 0)"),
        (lambda: stream.read(MAGIC + unknown_frame()), "the stream has a frame of unknown kind 9"),
        (lambda: Catalogue.parse(b"[]"), "what the link offers is no catalogue of a cache"),
        (twice(Tag.HEADER), "a stream has one header, and that comes first"),
        (with_text(b"a poem"), "the header of the stream cannot be read"),
        (with_text(zlib.compress(b"[" * 10**5)), "the header of the stream cannot be read"),
        (with_text(zlib.compress(b"{}")[:-1]), "the header of the stream does not end"),
        (with_header(lambda parts: parts.update(version=7)), "has version 7; this library reads version 1"),
        (with_header(lambda parts: parts.update(chunk=0)), "the chunks or the bins in the header of the"),
        (
            with_header(lambda parts: parts.update(chunk="x")),
            "the header of the stream says 'x' where a number up to 16777216 makes sense",
        ),
        (
            with_header(lambda parts: parts.update(arrays=[["<f8", [N]]])),
            "an array of the stream has the unknown type '<f8'",
        ),
        (with_layer(n=N + 1), "the ordinals of a layer do not fit its entries"),
        (with_layer(dim=0), "a layer of the stream has no heads or no channels"),
        (with_layer(dtype="int8"), "a layer of the stream has an impossible type or position"),
        (with_layer(dim=2), "the rotation of a layer does not fit its keys"),
        (
            read(list, most_bytes=99),
            "the stream says that it holds 148 bytes; at most 99 are read",
        ),
        (read(lambda frames: frames[:2]), "the stream ends before its header does"),
        (with_frame(Tag.PLAIN, layer=1), "an array of the stream is not where its header says"),
        (without(Tag.PLAIN), "an array of the stream is not where its header says"),
        (with_frame(Tag.SIDE, layer=9), "a frame of the stream belongs to nothing that its header knows"),
        (twice(Tag.ROWS), "a chunk of the stream comes twice or belongs to nothing"),
        (without(Tag.SIDE), "codes of the stream come before what they build on"),
        (twice(Tag.CODES), "rung 0 of the stream cannot follow rung 0"),
        (read(lambda frames: frames[: at(frames, Tag.CODES)]), "chunk 0 of layer 0 is missing in the stream"),
        (twice(Tag.EXACT, LAST), "the last part of the stream does not follow from the parts before"),
        (side(np.nan, 1), "means, scales or blocks of the stream make no sense"),
        (side(0, DIM, 1, [[9], [0] * (DIM - 1)]), "a basis of the stream has an impossible precision"),
        (side(0, 1, b"ab"), "2 bytes of the stream belong to nothing"),
        (side(0, DIM, 1, b"\xff\0" * (DIM + 1)), "a row of the stream names a table or a width"),
        (rows(3), "the stream repeats entries in a way that it cannot"),
        (rows(1), "the stream repeats entries in a way that it cannot"),
        (
            rows(2, [[0] + [1] * (N - 1)], 3, b"\6", b"\7\0"),
            "an entry of the stream repeats one that does not exist",
        ),
        (
            with_frame(Tag.CODES, DEEP, kind=1, payload=wired(0)),
            "a finer rung of the stream has fewer components than the one before",
        ),
        (codes(2), "codes of the stream echo tokens whose ids it does not have"),
        (codes(0, tables(93)), "table 93 of a component of the stream is not among 0 to 92"),
        (codes(0, tables(0, low=21)), "width 21 of a component of the stream is not among 0 to 20"),
        (codes(0, tables(0), 0, 0, 3, b"abc"), "codes beyond the tables are cut off"),
        (codes(0, tables(0), 0, 0, 0), "a frame of the stream makes no sense: "),
        (
            codes([[93] * DIM, [0] * energy.CLASSES], rung=DEEP),
            "table 93 of a component of the stream is not",
        ),
        (
            with_frame(Tag.EXACT, LAST, payload=wired([[999] * DIM])),
            "a deviation of the stream is impossible",
        ),
        (arrays([X], NUMBERS, NUMBERS), "a tensor of the stream is not where its header says"),
        (arrays([X], NUMBERS, tag=Tag.ROWS), "a tensor of the stream is not where its header says"),
        (arrays([X, ["y", "int8", [3]]], NUMBERS), "1 of the 2 tensors of the stream are missing"),
        (arrays([X, X], NUMBERS, NUMBERS), "two tensors of the stream have the same name"),
        (arrays([["x", "quint8", [3]]]), "the header of the stream cannot be read"),
        (arrays([["x", "uint8", [float("inf")]]]), "the header of the stream cannot be read"),
        (arrays([["x", "uint8", [-3]]]), "a tensor of the stream has the impossible shape (-3,)"),
        (arrays([X], NUMBERS, most_bytes=2), "the stream says that it holds 3 bytes; at most 2 are read"),
        (
            arrays([["x", "uint8", [2**39, 2**39, 0]]], NUMBERS),
            "a frame of the stream makes no sense: ",
        ),
        (octets(0, 3), "an array of the stream is split in an impossible way"),
        (octets(0, 4, 5, 200), "an array of the stream has symbols that are too large"),
        (octets(4, 1, 0, 8, 5, 77, 0, 8, 5, 1), "an array of the stream names a number that its list lacks"),
        (octets(0, 8, 0, 0, 0, [[]], [[]]), "a table of the stream makes no sense"),
    ],
    InputError: [
        (lambda: stream.write([], "medium"), "a stream needs at least one sheet and chunks of at least one"),
        (write(values=sheet().values.half()), "keys and values must both be float32, bfloat16, float16; got"),
        (write(keys=sheet().keys[0]), "keys (7, 4) and values (1, 7, 4) must be [H, N, D], [H, N, Dv]"),
        (write(values=sheet().values[..., :0]), "keys (1, 7, 4) and values (1, 7, 0) need heads and"),
        (
            write(ids=torch.zeros(3).int()),
            "ids have the shape (3,); with keys (1, 7, 4) they must have (7,) or (1, 7)",
        ),
        (write(rope=Rope(torch.ones(3), False)), "rope turns 6 channels, and keys have 4"),
        (write(keys=broken(torch.inf)), "keys or values are not finite; only `lossless` by itself can"),
        (
            lambda: Shelf([dataclasses.replace(sheet(), keys=broken(torch.nan))]),
            "keys or values are not finite; only `lossless` by itself can",
        ),
        (
            lambda: stream.write_arrays({"x": torch.ones(2) * 1j}),
            "x is torch.complex64; a stream can hold bool, uint8",
        ),
        (on_shelf("sides/huge/small"), "the shelf has nothing named 'sides/huge/small'"),
        (on_shelf("chunk/9/small"), "the shelf has no chunk 9; it has 1"),
        (over_sockets("chunk/9/small"), "the server has nothing named 'chunk/9/small'"),
        (nobody, "no server answers at 127.0.0.1:"),
        (hung_up, "the link broke while 'head' was on its way: "),
    ],
    UnknownName: [
        (write("tiny"), "unknown level 'tiny'; nearest: "),
        (read(list, upto="tiny"), "unknown level 'tiny'; nearest: "),
    ],
    BadArgument: [
        (lambda: Controller(0), "deadline_s=0 is not allowed; deadline_s must be above 0"),
        (lambda: Controller(1, least=-5), "least=-5 is not allowed; least must be above 0"),
    ],
}
"""error → (what raises it, a piece of what it says)."""
