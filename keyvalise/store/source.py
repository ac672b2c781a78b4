"""Where the bytes of a file come from: memory, or a file that stays open as long as anybody reads it."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from io import FileIO
from typing import Protocol

from keyvalise.types.errors import CacheFileError, Damaged


class Source(Protocol):
    """Bytes that can be asked for by their place."""

    @property
    def size(self) -> int: ...

    def read(self, begin: int, end: int) -> bytes:
        """The bytes begin … end − 1; fewer where there are no more."""
        ...

    def fill(self, begin: int, into: memoryview, what: str) -> None:
        """Copy what stands at `begin` into memory of the caller's.

        Raises   Damaged where `what` has no such bytes any more
        """
        ...


@dataclass(frozen=True)
class Held:
    """Bytes in memory."""

    data: memoryview

    @property
    def size(self) -> int:
        return self.data.nbytes

    def read(self, begin: int, end: int) -> bytes:
        return bytes(self.data[begin:end])

    def fill(self, begin: int, into: memoryview, what: str) -> None:
        into[:] = self.data[begin : begin + into.nbytes]


class Opened:
    """A file, which is closed when nobody refers to this any more; several threads may read."""

    def __init__(self, file: FileIO):
        self.file, self.lock = file, threading.Lock()
        self.size = os.fstat(file.fileno()).st_size
        weakref.finalize(self, file.close)

    def read(self, begin: int, end: int) -> bytes:
        data = bytearray(max(min(end, self.size) - begin, 0))
        return bytes(data[: self._fill(begin, memoryview(data))])

    def fill(self, begin: int, into: memoryview, what: str) -> None:
        missing = into.nbytes - self._fill(begin, into)
        if missing:
            raise Damaged(f"{what} is cut off: {missing} bytes are missing")

    def _fill(self, begin: int, into: memoryview) -> int:
        """How many bytes could be read."""
        done = 0
        try:
            with self.lock:
                self.file.seek(begin)
                while done < into.nbytes and (n := self.file.readinto(into[done:])):
                    done += n
        except OSError as error:
            name = self.file.name
            raise CacheFileError(f"cannot read the cache {name}: {error.strerror or error}") from None
        return done
