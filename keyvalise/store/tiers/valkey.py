"""A place in a Valkey or Redis server, through redis-py: bytes in parts, published by their manifest.

    {prefix}:part:NAME:NONCE:i   PART_BYTES each, gone by themselves if no manifest is published in time
    {prefix}:is:NAME             the manifest: nonce, number of parts, bytes; whoever finds it finds all
    {prefix}:names  {prefix}:used  {prefix}:sizes     what `entries` reads, changed together with manifests

What belongs together changes in one script, which the server runs as a whole. It may forget anything at any
time: a missing part is a missing name.
"""

from __future__ import annotations

import importlib
import json
import secrets
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from keyvalise.store.tiers.tier import Entry, Swept, Told, checked
from keyvalise.types.errors import StoreError, StoreFailure

PREFIX = "keyvalise"
"""Before all keys of the server that are ours."""

PART_BYTES = 16 * 2**20
"""Bytes per value: far below the 512 MiB that a value may have, and enough for a full line."""

DRAFT_S = 600
"""Parts without a manifest vanish after so many seconds."""

CONNECT_S, ANSWER_S = 5.0, 60.0
"""How long a server is waited for, unless the URI says otherwise: redis://host/0?socket_timeout=5."""

READ_BYTES = 2**20
"""Taken from the socket at once: large values arrive half as fast again as by the client's own 64 KiB."""

NOW = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
"""
"""The server's clock, the same for all who use it."""

PUBLISH = f"""
{NOW}
local names, used, sizes, is = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, manifest, bytes, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if #KEYS > 4 and redis.call('EXISTS', unpack(KEYS, 5)) < #KEYS - 4 then return 0 end
local old = redis.call('GET', is)
if old then
  old = cjson.decode(old)
  for i = 0, old.parts - 1 do redis.call('DEL', before .. old.nonce .. ':' .. i) end
end
for i = 5, #KEYS do redis.call('PERSIST', KEYS[i]) end
redis.call('SET', is, manifest)
redis.call('ZADD', names, 0, name)
redis.call('ZADD', used, now, name)
redis.call('HSET', sizes, name, bytes)
return 1
"""
"""Lets parts stay and shows their manifest, in place of an older one with its parts; 0: a part is gone."""

DROP = """
local names, used, sizes, is = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, before = ARGV[1], ARGV[2]
local old = redis.call('GET', is)
if old then
  old = cjson.decode(old)
  for i = 0, old.parts - 1 do redis.call('DEL', before .. old.nonce .. ':' .. i) end
end
redis.call('DEL', is)
redis.call('ZREM', names, name)
redis.call('ZREM', used, name)
redis.call('HDEL', sizes, name)
"""

TOUCH = f"""
{NOW}
redis.call('ZADD', KEYS[1], 'XX', now, ARGV[1])
"""

SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss", "unix": "unix"}
"""Ours → what redis-py calls it."""


def reached(uri: str) -> ValkeyTier:
    """The server that a URI such as valkey://host:6379/0 names; nothing is asked of it yet.

    Raises   StoreError where redis-py is not installed or does not understand the URI
    """
    try:
        redis = importlib.import_module("redis")
    except ImportError:
        raise StoreError(
            f"{shown(uri)} needs redis-py; install it with: pip install 'keyvalise[valkey]'"
        ) from None
    parts = urlsplit(uri)
    try:
        url = urlunsplit((SCHEMES[parts.scheme], *parts[1:]))
        client = redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_S, socket_timeout=ANSWER_S, socket_read_size=READ_BYTES
        )
    except ValueError as error:
        raise StoreError(f"cannot open the store {shown(uri)}: {error}") from None
    return ValkeyTier(client, shown(uri), redis.RedisError)


def shown(uri: str) -> str:
    """A URI without its user and password."""
    parts = urlsplit(uri)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class ValkeyTier:
    """Names are manifests.

    client   of redis-py;  uri: how to call the server;  failure: what its errors are
    """

    is_local = False

    def __init__(self, client: Any, uri: str, failure: type[Exception], part_bytes: int = PART_BYTES):
        self._client, self.uri, self._failure, self._part_bytes = client, uri, failure, part_bytes

    def get(self, name: str) -> bytes | None:
        return self.get_many([name])[0]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Two round trips for all: their manifests, then every part of every one."""
        if not names:
            return []
        with self._told("read", names[0]):
            found = [_manifest(one) for one in self._client.mget([_is(name) for name in names])]
            asked = [_parts(name, one) for name, one in zip(names, found, strict=True)]
            line = self._client.pipeline(transaction=False)
            for key in (key for keys in asked for key in keys):
                line.get(key)
            parts = iter(line.execute())
        return [
            None if one is None else _whole([next(parts) for _ in keys], one["bytes"])
            for one, keys in zip(found, asked, strict=True)
        ]

    def put(self, name: str, data: bytes) -> None:
        view, size = memoryview(data), self._part_bytes
        made = {"nonce": secrets.token_hex(8), "parts": -(-len(data) // size), "bytes": len(data)}
        keys = _parts(checked(name), made)
        with self._told("write", name):
            for i, key in enumerate(keys):
                self._client.set(key, view[i * size : (i + 1) * size], ex=DRAFT_S)
            is_whole = self._run(PUBLISH, name, *keys, more=(json.dumps(made), len(data), _part(name)))
        if not is_whole:
            raise StoreFailure(
                f"cannot write {name} in the store {self.uri}: it took longer than {DRAFT_S} s"
            )

    def delete(self, name: str) -> None:
        with self._told("remove", name):
            self._run(DROP, checked(name), more=(_part(name),))

    def _run(self, script: str, name: str, *keys: str, more: Sequence[str | int]) -> Any:
        own = (_key("names"), _key("used"), _key("sizes"), _is(name), *keys)
        return self._client.eval(script, len(own), *own, name, *more)

    def find(self, name: str) -> Entry | None:
        with self._told("read", name):
            line = self._client.pipeline(transaction=False)
            line.exists(_is(checked(name))).hget(_key("sizes"), name).zscore(_key("used"), name)
            is_there, size, used = line.execute()
        return Entry(name, int(size or 0), float(used or 0.0)) if is_there else None

    def names(self, prefix: str = "") -> list[str]:
        with self._told("list", ""):
            low, high = (f"[{prefix}", f"[{prefix}\xff") if prefix else ("-", "+")
            return [name.decode() for name in self._client.zrangebylex(_key("names"), low, high)]

    def entries(self, prefix: str = "") -> list[Entry]:
        names = self.names(prefix)
        if not names:
            return []
        with self._told("list", ""):
            line = self._client.pipeline(transaction=False)
            line.hmget(_key("sizes"), names).zmscore(_key("used"), names)
            sizes, uses = line.execute()
        return [
            Entry(name, int(size or 0), float(used or 0.0))
            for name, size, used in zip(names, sizes, uses, strict=True)
        ]

    def touch(self, name: str) -> None:
        with self._told("write", name):
            self._client.eval(TOUCH, 1, _key("used"), checked(name))

    def sweep(self, grace_s: float) -> Swept:
        """Drafts vanish by themselves; names whose manifest the server has forgotten are dropped here."""
        with self._told("sweep", ""):
            names = self.names()
            line = self._client.pipeline(transaction=False)
            for name in names:
                line.exists(_is(name))
            gone = [name for name, is_there in zip(names, line.execute(), strict=True) if not is_there]
        for name in gone:
            self.delete(name)
        return Swept()

    def free_bytes(self) -> int | None:
        """What the server may still take, by its own limit or by the memory of its machine."""
        with self._told("ask", ""):
            memory = self._client.info("memory")
        limit = memory.get("maxmemory") or memory.get("total_system_memory")
        return max(int(limit) - int(memory["used_memory"]), 0) if limit else None

    def _told(self, doing: str, name: str) -> Told:
        return Told(doing, name, self.uri, (self._failure, OSError))


def _key(word: str) -> str:
    return f"{PREFIX}:{word}"


def _is(name: str) -> str:
    return _key(f"is:{name}")


def _part(name: str) -> str:
    return _key(f"part:{name}:")


def _manifest(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else json.loads(data)


def _parts(name: str, manifest: dict[str, Any] | None) -> list[str]:
    """The keys of the parts that a manifest speaks of."""
    if manifest is None:
        return []
    return [f"{_part(name)}{manifest['nonce']}:{i}" for i in range(manifest["parts"])]


def _whole(parts: list[bytes | None], n_bytes: int) -> bytes | None:
    """The parts as one, None where any is missing."""
    held = [part for part in parts if part is not None]
    whole = held[0] if len(held) == 1 else b"".join(held)
    return whole if len(held) == len(parts) and len(whole) == n_bytes else None
