"""Frames: the envelopes in a stream. Each says what it is, how long, and proves that it is whole.

stream   MAGIC, frame, frame, …      the first frame is the header
frame    tag, layer, chunk, kind, rung, length as varints; payload; 12 bytes of blake2b over all of it,
         keyed by the header, so that frames of another stream are no part of this one
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

MAGIC = b"KVS1"
DIGEST = 12
MOST = 2**20
"""Layers, chunks and the like."""


class Tag(enum.IntEnum):
    """What a frame holds."""

    HEADER = 0
    PLAIN = 1
    SIDE = 2
    ROWS = 3
    CODES = 4
    EXACT = 5


@dataclass(frozen=True, slots=True)
class Frame:
    """One envelope; fields that a tag has no use for are 0."""

    tag: Tag
    payload: bytes
    layer: int = 0
    chunk: int = 0
    kind: int = 0
    rung: int = 0

    @property
    def place(self) -> tuple[int, ...]:
        """What tells it from others of its stream."""
        return (self.tag, self.layer, self.chunk, self.kind, self.rung)

    def seal(self, key: bytes) -> bytes:
        """Its bytes in the stream whose header has this digest."""
        out = Writer()
        for number in self.place:
            out.number(number)
        out.blob(self.payload)
        return bytes(out.data) + digest(bytes(out.data), key)


def digest(data: bytes, key: bytes) -> bytes:
    """What proves that bytes are whole."""
    return hashlib.blake2b(data, digest_size=DIGEST, key=key).digest()


def begin(header: bytes) -> tuple[bytes, bytes]:
    """The beginning of a stream with this header, and the key of its other frames."""
    first = Frame(Tag.HEADER, header).seal(b"")
    return MAGIC + first, first[-DIGEST:]


def parse(data: bytes) -> Iterator[Frame]:
    """The frames of a stream, header first, each proven whole.

    Raises   DamagedStream at the first byte that cannot be
    """
    parser = Parser()
    yield from parser.feed(data)
    if not parser.key:
        raise DamagedStream("the stream has no header")


class Parser:
    """Frames out of bytes that come in pieces of whole frames."""

    def __init__(self) -> None:
        self.key, self._is_begun = b"", False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames of the next piece."""
        source = Reader(data)
        if not self._is_begun:
            if source.take(len(MAGIC)) != MAGIC:
                raise DamagedStream("this is no stream of keys and values: its first bytes are others")
            self._is_begun = True
        while source.at < len(source.data):
            yield self._next(source)

    def _next(self, source: Reader) -> Frame:
        start = source.at
        tag, layer, chunk, kind, rung = (source.number(MOST) for _ in range(5))
        payload = source.blob()
        body = source.data[start : source.at]
        proof = source.take(DIGEST)
        if proof != digest(body, self.key):
            raise DamagedStream(f"a frame of the stream was changed (byte {start})")
        if tag not in Tag._value2member_map_:
            raise DamagedStream(f"the stream has a frame of unknown kind {tag}")
        if (tag == Tag.HEADER) != (not self.key):
            raise DamagedStream("a stream has one header, and that comes first")
        self.key = self.key or proof
        return Frame(Tag(tag), payload, layer, chunk, kind, rung)
