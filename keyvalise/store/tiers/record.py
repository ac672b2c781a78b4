"""What is known of a stored context: which requests it can serve, and where its bytes are.

    v1/TENANT/object/OBJECT                      the bytes, named by their SHA-256
    v1/TENANT/index/FAMILY/OBJECT.RECORD         a record, named by the object and by its own bytes

One record speaks of all chunk ends that its object can serve, so a context is found whole or not at all. Both
names follow from what they name: a record cannot point to another object's bytes, only to nothing. It holds
hashes, counts, and the recipe and model for people; never a token.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from keyvalise.store.keys import Chain

ROOT = "v1"
"""Before all names; another layout of the store would have another."""


@dataclass(frozen=True, slots=True)
class Record:
    """object: SHA-256 of the stored bytes;  n_bytes: how many;  n_tokens: of its context

    chunks       hashes of the context's whole chunks;  tail: of what lies behind them, or empty
    is_croppable whether it serves every request that shares chunks with it, or only those that begin with
                 all of it
    about        recipe, model, dtype …: words for people, of which nothing depends
    """

    object: str
    n_bytes: int
    n_tokens: int
    chunks: tuple[bytes, ...]
    tail: bytes
    is_croppable: bool
    about: Mapping[str, str] = field(default_factory=dict)

    def serves(self, chain: Chain) -> int:
        """How many of a request's first tokens it can stand for."""
        n_chunks = chain.common(self.chunks)
        has_all = n_chunks == len(self.chunks) and self.n_tokens <= chain.n_tokens
        if has_all and chain.tail(self.n_tokens) == self.tail:
            return self.n_tokens
        return n_chunks * chain.size if self.is_croppable else 0

    def to_bytes(self) -> bytes:
        """The same record always gives the same bytes."""
        data = {
            "object": self.object,
            "bytes": self.n_bytes,
            "tokens": self.n_tokens,
            "chunks": b"".join(self.chunks).hex(),
            "tail": self.tail.hex(),
            "croppable": self.is_croppable,
            "about": dict(self.about),
        }
        return json.dumps(data, sort_keys=True).encode()

    @staticmethod
    def read(name: str, data: bytes) -> Record | None:
        """The record under a name, None where its bytes are not those that were named so."""
        if not name.endswith(f".{_mark(data)}"):
            return None
        found = json.loads(data)
        chunks = bytes.fromhex(found["chunks"])
        return Record(
            found["object"],
            found["bytes"],
            found["tokens"],
            tuple(chunks[i : i + 32] for i in range(0, len(chunks), 32)),
            bytes.fromhex(found["tail"]),
            found["croppable"],
            found["about"],
        )


def object_name(tenant: str, data: bytes) -> str:
    """The name of bytes."""
    return f"{ROOT}/{tenant}/object/{hashlib.sha256(data).hexdigest()}"


def record_name(tenant: str, family: str, record: Record) -> str:
    """The name of a record."""
    return f"{ROOT}/{tenant}/index/{family}/{record.object}.{_mark(record.to_bytes())}"


def family_prefix(tenant: str, family: str) -> str:
    """Before the names of all records of a family."""
    return f"{ROOT}/{tenant}/index/{family}/"


def _mark(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]
