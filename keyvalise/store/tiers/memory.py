"""A place in this process, gone with it: for trying things out, and for tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import psutil

from keyvalise.store.tiers.tier import Entry, Swept, checked


class MemoryTier:
    """Names and bytes in a dictionary; every object of this class is another place."""

    uri = "memory://"
    is_local = True

    def __init__(self) -> None:
        self._held: dict[str, tuple[Entry, bytes]] = {}

    def get(self, name: str) -> bytes | None:
        held = self._held.get(name)
        return None if held is None else held[1]

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put(self, name: str, data: bytes) -> None:
        self._held[checked(name)] = Entry(name, len(data), time.time()), bytes(data)

    def delete(self, name: str) -> None:
        self._held.pop(name, None)

    def find(self, name: str) -> Entry | None:
        held = self._held.get(name)
        return None if held is None else held[0]

    def names(self, prefix: str = "") -> list[str]:
        return [name for name in list(self._held) if name.startswith(prefix)]

    def entries(self, prefix: str = "") -> list[Entry]:
        return [entry for entry, _ in list(self._held.values()) if entry.name.startswith(prefix)]

    def touch(self, name: str) -> None:
        held = self._held.get(name)
        if held is not None:
            self._held[name] = replace(held[0], used_s=time.time()), held[1]

    def sweep(self, grace_s: float) -> Swept:
        return Swept()

    def free_bytes(self) -> int | None:
        return int(psutil.virtual_memory().available)
