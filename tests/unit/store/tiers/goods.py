"""Contexts and what is stored for them: bytes that say whose they are, so that any mix-up shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random

from keyvalise.store.keys import Key
from keyvalise.store.tiers.shelf import Hit, Shelf

CHUNK = 7
TENANTS = ("", "ada", "bob")


def key(tenant: str = "", **fields: object) -> Key:
    """A model's key for a tenant."""
    return Key(model="m", salt=tenant, **fields)  # type: ignore[arg-type]


def context(number: int, n_tokens: int = 30) -> list[int]:
    """The tokens of a context; no two numbers share a chunk."""
    random = Random(number)
    return [number, *(random.randrange(1000) for _ in range(n_tokens - 1))]


def payload(tenant: str, tokens: Sequence[int], n_bytes: int = 3000) -> bytes:
    """What a tenant stores for tokens: a line that names both, then noise that follows from it."""
    line = f"{tenant}|{','.join(map(str, tokens))}|{n_bytes}\n".encode()
    return line + Random(hashlib.sha256(line).digest()).randbytes(n_bytes)


def told(data: bytes) -> tuple[str, list[int]]:
    """(tenant, tokens) of stored bytes, which must be whole and right."""
    line, _, _ = data.partition(b"\n")
    tenant, tokens, n_bytes = line.decode().split("|")
    ids = list(map(int, tokens.split(",")))
    assert data == payload(tenant, ids, int(n_bytes)), "stored bytes are not what was put"
    return tenant, ids


def put(
    shelf: Shelf, tokens: Sequence[int], tenant: str = "", n_bytes: int = 3000, is_croppable: bool = True
) -> str:
    """Put a context's own payload."""
    return shelf.put(key(tenant), tokens, lambda: payload(tenant, tokens, n_bytes), is_croppable=is_croppable)


def check(hit: Hit, tenant: str, tokens: Sequence[int]) -> None:
    """A hit is the tenant's own, and its context begins as was asked."""
    whose, ids = told(hit.data)
    assert whose == tenant and ids[: hit.n_tokens] == list(tokens)[: hit.n_tokens]
    assert hit.record.n_tokens == len(ids) and 0 < hit.n_tokens <= min(len(ids), len(tokens))


def has(shelf: Shelf, tokens: Sequence[int], tenant: str = "") -> bool:
    """Whether exactly this context is found, and is right."""
    hit = shelf.longest(key(tenant), tokens, is_whole=True)
    if hit is not None:
        check(hit, tenant, tokens)
    return hit is not None
