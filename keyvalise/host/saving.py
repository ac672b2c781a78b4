"""A cache as bytes, and back: what stores and files keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyvalise.host import frozen
from keyvalise.host.cache import KVCache
from keyvalise.store import file, streamed


def dumps(cache: KVCache, **options: Any) -> bytes:
    """The bytes of the file that `cache.save` would publish; options are those of `save`."""
    header, parts = frozen.described(cache, **options)
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
    stored = streamed.opened(data)
    return KVCache.of_stored(stored, model, tokenizer=tokenizer, salt=salt, edits=edits, lazy=lazy)
