"""What a sender offers of a row: blobs by name, and how large each chunk is at each level.

catalogue          how large everything below is
head               the beginning of a stream: header and arrays
sides/HAVE/LEVEL   what all chunks share at a level, beyond what is known at HAVE ("none": nothing)
chunk/I/LEVEL      chunk I of all layers at a level, alone
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from keyvalise.store.stream import frame, levels, writer
from keyvalise.store.stream.coded import CHUNK, Encoded
from keyvalise.store.stream.controller import Catalogue, Offer
from keyvalise.store.stream.part import KINDS
from keyvalise.store.stream.sheet import Sheet
from keyvalise.types.errors import InputError

NONE = "none"


class Shelf:
    """Blobs of a row's sheets, made when they are first asked for."""

    def __init__(self, sheets: Sequence[Sheet], names: Sequence[str] | None = None, chunk: int = CHUNK):
        self.encoded = Encoded(sheets, chunk)
        self.levels = {name: levels.find(name) for name in names or levels.LEVELS}
        self.encoded.check(self.levels.values())
        begin, self.key = frame.begin(self.encoded.header.text())
        self._head = begin + b"".join(one.seal(self.key) for one in self.encoded.plain())
        self.blob: Callable[[str], bytes] = functools.cache(self._blob)

    @property
    def n_chunks(self) -> int:
        """Chunks of the longest layer."""
        return max(self.encoded.header.n_chunks(layer) for layer in range(len(self.encoded.sheets)))

    def catalogue(self) -> Catalogue:
        """All chunks, their text taken to be there or in the ids of the head; and what they share."""
        longest, size = max(sheet.n for sheet in self.encoded.sheets), self.encoded.header.chunk
        offers = [
            Offer(self._sizes(f"chunk/{i}"), min(size, longest - i * size)) for i in range(self.n_chunks)
        ]
        shared = {have: self._sizes(f"sides/{have}") for have in (NONE, *self.levels)}
        return Catalogue(tuple(offers), shared)

    def _sizes(self, place: str) -> dict[str, int]:
        return {name: len(self.blob(f"{place}/{name}")) for name in self.levels}

    def _blob(self, name: str) -> bytes:
        match name.split("/"):
            case ["catalogue"]:
                return self.catalogue().to_bytes()
            case ["head"]:
                return self._head
            case ["sides", have, level] if level in self.levels and have in (NONE, *self.levels):
                return self._sides(have, level)
            case ["chunk", index, level] if level in self.levels and index.isdecimal():
                return self._chunk(int(index), level)
        raise InputError(f"the shelf has nothing named {name!r}")

    def _sides(self, have: str, level: str) -> bytes:
        out = b""
        for kind in KINDS:
            known = None if have == NONE else self.levels[have].rung(kind)
            wanted = self.levels[level].rung(kind)
            if known is None or known < wanted:
                out += b"".join(one.seal(self.key) for one in self.encoded.sides(kind, wanted, known))
        return out

    def _chunk(self, index: int, name: str) -> bytes:
        if index >= self.n_chunks:
            raise InputError(f"the shelf has no chunk {index}; it has {self.n_chunks}")
        level = self.levels[name]
        start = {kind: level.rung(kind) for kind in KINDS}
        return b"".join(
            one.seal(self.key)
            for place in writer.places(self.encoded)
            if place[1] == index
            for one in writer.chunk_frames(self.encoded, place, level, start, {})
        )
