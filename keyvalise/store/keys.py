"""Under which names a context is found: its tokens in chunks, and every field that may change an answer.

Whatever is hashed is tagged and bears its length, so that no two fields can be taken for each other: an
adapter that is called like a salt is still an adapter. Knows no cache, no model and no tier; names are hashes
and tell nothing about a text.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from keyvalise.types.errors import StoreError

LAYOUT = 1
"""Version of what is hashed and in which order; another version finds nothing of this one."""

CHUNK = 256
"""Tokens per chunk unless the caller says otherwise."""

WIDTH = 8
"""Bytes per token."""

Field = str | int | None | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """Everything beside the tokens on which a stored cache depends.

    model    the model's identity;  recipe: in river order;  dtype: of raw entries;  seed: of random draws
    assets   digests of the tensors that the recipe names;  spans: named stretches that the recipe is for
    salt     whose caches these are: a tenant's secret or name;  adapter: on top of the model
    edits    what is changed on purpose, in order;  layout: version of the stored bytes
    level    of the bitstream, where it loses anything
    """

    model: str
    recipe: str = "full"
    dtype: str = ""
    prefill_chunk: int | None = None
    seed: int = 0
    assets: tuple[str, ...] = ()
    spans: tuple[str, ...] = ()
    salt: str = ""
    adapter: str = ""
    edits: tuple[str, ...] = ()
    layout: int = 0
    level: str = ""

    @property
    def tenant(self) -> str:
        """The name under which everything of this salt lies."""
        return tenant(self.salt)


def tenant(salt: str) -> str:
    """32 hexadecimal digits of a salt."""
    return digest("tenant", _text(salt)).hex()[:32]


def digest(tag: str, *parts: bytes) -> bytes:
    """SHA-256 of parts under a tag, each with its length before it."""
    found = hashlib.sha256()
    for part in (_text(tag), *parts):
        found.update(struct.pack("<Q", len(part)))
        found.update(part)
    return found.digest()


def encoded(key: Key) -> bytes:
    """A key as bytes, different for any two different keys."""
    fields = ((field.name, getattr(key, field.name)) for field in dataclasses.fields(key))
    return b"".join(_framed(_text(name)) + _framed(_value(value)) for name, value in fields)


def _value(value: Field) -> bytes:
    match value:
        case None:
            return b"none"
        case int():
            return b"int " + str(value).encode()
        case str():
            return b"text" + _text(value)
        case _:
            return b"list" + b"".join(_framed(_text(one)) for one in value)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _framed(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


@dataclass(frozen=True)
class Chain:
    """The hashes of a context: h_i = H(h_{i−1}, tokens of chunk i), with a hash of the key as h_0.

    root    h_0;  chunks: h_1, h_2, … of the whole chunks;  size: tokens per chunk
    packed  all tokens, eight bytes each, for the hashes of what lies behind a chunk's end
    """

    root: bytes
    chunks: tuple[bytes, ...]
    packed: bytes
    size: int

    @staticmethod
    def of(key: Key, tokens: Sequence[int], size: int = CHUNK) -> Chain:
        """The chain of tokens under a key.

        Raises   StoreError for no token, or for one that is no 64-bit integer
        """
        if not tokens:
            raise StoreError("a context of no token has no name; give at least one token")
        root = digest("key", struct.pack("<QQ", LAYOUT, size), encoded(key))
        try:
            packed = struct.pack(f"<{len(tokens)}q", *tokens)
        except struct.error:
            raise StoreError("tokens must be 64-bit integers") from None
        return Chain(root, tuple(_links(root, packed, size * WIDTH)), packed, size)

    @property
    def n_tokens(self) -> int:
        return len(self.packed) // WIDTH

    @property
    def family(self) -> str:
        """The name that all contexts share which begin with the same chunk; short ones share one."""
        return (self.chunks[0] if self.chunks else self.short).hex()[:32]

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Where contexts lie that this one may begin with."""
        return tuple(dict.fromkeys((self.family, self.short.hex()[:32])))

    @property
    def short(self) -> bytes:
        """Stands for the first chunk of contexts that have none."""
        return digest("short", self.root)

    def tail(self, n_tokens: int) -> bytes:
        """The hash of the first n tokens, of which the last fill no chunk; empty where they do."""
        n_chunks, rest = divmod(n_tokens, self.size)
        if not rest:
            return b""
        before = self.chunks[n_chunks - 1] if n_chunks else self.root
        return digest("tail", before, self.packed[n_chunks * self.size * WIDTH : n_tokens * WIDTH])

    def common(self, chunks: Sequence[bytes]) -> int:
        """How many chunks another chain has in common: equal links have equal chains before them."""
        low, high = 0, min(len(chunks), len(self.chunks))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if chunks[middle - 1] == self.chunks[middle - 1] else (low, middle - 1)
        return low


def _links(root: bytes, packed: bytes, width: int) -> Iterator[bytes]:
    link = root
    for end in range(width, len(packed) + 1, width):
        link = digest("chunk", link, packed[end - width : end])
        yield link
