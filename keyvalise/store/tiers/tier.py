"""What a place must be able to do to keep a store: named bytes, published whole or not at all.

A name is words of lower-case letters, digits and dots, parted by slashes. Whoever reads gets all bytes of a
name, in memory of his own, or nothing; whatever else happens (an eviction, a dead writer) looks like nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from keyvalise.types.errors import KeyvaliseError, StoreError, StoreFailure

_NAME = re.compile(r"[0-9a-z][0-9a-z.]*(?:/[0-9a-z][0-9a-z.]*)*")


@dataclass(frozen=True, slots=True)
class Entry:
    """A published name. used_s: Unix time of its last use, or of its publishing."""

    name: str
    n_bytes: int
    used_s: float


@dataclass(frozen=True, slots=True)
class Swept:
    """What dead writers had left: drafts that nobody could see."""

    n_drafts: int = 0
    n_bytes: int = 0


class Tier(Protocol):
    """A place for named bytes.

    uri        how it is called, without secrets
    is_local   whether reading it costs a file and no network

    Raises   StoreFailure from every method where the place cannot be reached, read or written
    """

    uri: str
    is_local: bool

    def get(self, name: str) -> bytes | None:
        """All bytes of a name, None where nothing is published under it."""
        ...

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        """The same for several names, with as few round trips as the place allows."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Publish bytes under a name, in place of what was there."""
        ...

    def delete(self, name: str) -> None:
        """Take a name back; readers that have begun go on, others find nothing."""
        ...

    def find(self, name: str) -> Entry | None:
        """What is published under a name."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """All published names that begin so, in any order."""
        ...

    def entries(self, prefix: str = "") -> list[Entry]:
        """The same with what is known of each, which may cost more."""
        ...

    def touch(self, name: str) -> None:
        """Say that a name was used now; where that cannot be written, nothing happens."""
        ...

    def sweep(self, grace_s: float) -> Swept:
        """Remove the drafts of writers that have not gone on for so long."""
        ...

    def free_bytes(self) -> int | None:
        """What the place could still take up, None where it cannot tell."""
        ...


def checked(name: str) -> str:
    """The name itself.

    Raises   StoreError where it is no name, such as a path that leads out of the store
    """
    if not _NAME.fullmatch(name):
        raise StoreError(f"{name!r} is no name in a store")
    return name


def total(entries: Iterable[Entry]) -> int:
    """Bytes of entries together."""
    return sum(entry.n_bytes for entry in entries)


@dataclass(frozen=True, slots=True)
class Told:
    """Errors of these kinds, raised inside, become one sentence: what was done to what, and why not."""

    doing: str
    name: str
    uri: str
    kinds: type[Exception] | tuple[type[Exception], ...] = OSError

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, self.kinds) and not isinstance(error, KeyvaliseError):
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            place = f"{self.name} in the store {self.uri}" if self.name else f"the store {self.uri}"
            raise StoreFailure(f"cannot {self.doing} {place}: {said.splitlines()[0]}") from error
