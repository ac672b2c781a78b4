"""A place in any object storage (S3, GCS, Azure, a folder) through obstore, which publishes whole objects.

Such a place keeps no time of last use, so an empty object beside each that was read bears it. A bucket can
vanish or be slow at any moment; nothing of it is ever mapped.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from keyvalise.store.tiers.tier import Entry, Swept, Told, checked
from keyvalise.types.errors import StoreError, StoreFailure

USED = "used"
"""The folder of the empty objects that say when a name was last read."""

REFRESH_S = 60.0
"""A use is written down at most so often."""

READERS = 8
"""Small objects read at the same time."""

_threaded: list[int] = []
"""The process in which obstore has begun to work: its threads do not live on in forked children."""


def reached(uri: str) -> ObjectTier:
    """The place that a URI such as s3://bucket/folder names, with the settings of the environment.

    Raises   StoreError where obstore is not installed or does not understand the URI
    """
    try:
        stores = importlib.import_module("obstore.store")
    except ImportError:
        raise StoreError(f"{uri} needs obstore; install it with: pip install 'keyvalise[objects]'") from None
    try:
        return ObjectTier(stores.from_url(uri), uri)
    except Exception as error:
        raise StoreError(f"cannot open the store {uri}: {str(error).splitlines()[0]}") from None


class ObjectTier:
    """Names are keys of a bucket, below the prefix that `bucket` was opened with.

    bucket   an obstore store;  uri: how to call it
    """

    is_local = False

    def __init__(self, bucket: Any, uri: str):
        self._bucket, self.uri = bucket, uri
        self._written: dict[str, float] = {}

    def get(self, name: str) -> bytes | None:
        with self._told("read", name):
            try:
                return bytes(self._bucket.get(checked(name)).bytes())
            except FileNotFoundError:
                return None

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        if len(names) < 2:
            return [self.get(name) for name in names]
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.get, names))

    def put(self, name: str, data: bytes) -> None:
        with self._told("write", name):
            self._bucket.put(checked(name), data)

    def delete(self, name: str) -> None:
        with self._told("remove", name):
            for one in (checked(name), f"{USED}/{name}"):
                try:
                    self._bucket.delete(one)
                except FileNotFoundError:
                    continue

    def find(self, name: str) -> Entry | None:
        with self._told("read", name):
            try:
                found = self._bucket.head(checked(name))
            except FileNotFoundError:
                return None
            used = found["last_modified"].timestamp()
            with contextlib.suppress(FileNotFoundError):
                used = max(used, self._bucket.head(f"{USED}/{name}")["last_modified"].timestamp())
            return Entry(name, found["size"], used)

    def names(self, prefix: str = "") -> list[str]:
        with self._told("list", ""):
            return [one.name for one in self._below(prefix) if not one.name.startswith(f"{USED}/")]

    def entries(self, prefix: str = "") -> list[Entry]:
        with self._told("list", ""):
            uses = {entry.name.removeprefix(f"{USED}/"): entry for entry in self._below(f"{USED}/{prefix}")}
            return [
                Entry(
                    one.name, one.n_bytes, max(one.used_s, uses[one.name].used_s if one.name in uses else 0)
                )
                for one in self._below(prefix)
                if not one.name.startswith(f"{USED}/")
            ]

    def _below(self, prefix: str) -> list[Entry]:
        """What the bucket lists; its own prefixes are whole folders."""
        folder = prefix.rpartition("/")[0]
        return [
            Entry(one["path"], one["size"], one["last_modified"].timestamp())
            for batch in self._bucket.list(folder or None)
            for one in batch
            if one["path"].startswith(prefix)
        ]

    def touch(self, name: str) -> None:
        now = time.time()
        if now - self._written.get(name, 0.0) < REFRESH_S:
            return
        self._written[name] = now
        try:
            self._bucket.put(f"{USED}/{checked(name)}", b"")
        except Exception:
            # Whoever may only read leaves no trace of it.
            return

    def sweep(self, grace_s: float) -> Swept:
        """Object storage drops uploads that were not finished by itself; marks of names that are gone go."""
        with self._told("sweep", ""):
            held, edge = {entry.name for entry in self._below("")}, time.time() - grace_s
            for mark in self._below(f"{USED}/"):
                if mark.name.removeprefix(f"{USED}/") not in held and mark.used_s <= edge:
                    self._bucket.delete(mark.name)
        return Swept()

    def free_bytes(self) -> int | None:
        return None

    def _told(self, doing: str, name: str) -> Told:
        _threaded[:] = _threaded or [os.getpid()]
        if _threaded != [os.getpid()]:
            raise StoreFailure(
                f"cannot {doing} the store {self.uri} in a forked process whose parent has used object "
                "storage; start the process with the method spawn"
            )
        return Told(doing, name, self.uri, Exception)
