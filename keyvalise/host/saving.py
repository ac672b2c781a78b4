"""A cache as bytes, and back: what stores and files keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyvalise.host import frozen
from keyvalise.host.cache import KVCache
from keyvalise.store import file


def dumps(
    cache: KVCache,
    *,
    tokenizer: Any = None,
    tokens: frozen.Tokens | None = None,
    salt: str = "",
    edits: Sequence[str] = (),
) -> bytes:
    """The bytes of the file that `cache.save` would publish."""
    header, parts = frozen.described(cache, tokenizer=tokenizer, tokens=tokens, salt=salt, edits=edits)
    return b"".join(file.chunks(header, parts))


def loads(
    data: bytes,
    model: Any,
    *,
    tokenizer: Any = None,
    lazy: bool = False,
    salt: str | None = None,
    edits: Sequence[str] | None = None,
) -> KVCache:
    """The cache in such bytes; salt and edits are compared where they are given.

    lazy   read and verify every layer when it is first touched

    Raises   CacheFileError: Damaged, OtherModel or FutureVersion, with what differs
    """
    stored = file.opened(data)
    return KVCache.of_stored(stored, model, tokenizer=tokenizer, salt=salt, edits=edits, lazy=lazy)
