"""A place in a folder: one file per name, for this user alone.

Bytes are written to a draft in the same file system, flushed to the disk, and renamed; a reader sees the
whole file or none. No lock is taken by anybody. Files are read into memory and never mapped: a mapped page of
a file that somebody cuts short would end the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from keyvalise.store.tiers.tier import Entry, Swept, Told, checked
from keyvalise.types.errors import StoreError

DRAFTS = "drafts"
"""The folder of what is being written."""

TRIES = 20
"""A folder may be swept away as empty between making it and renaming into it, so often at most."""

_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


class DirectoryTier:
    """Names are paths below `root`, which is made when something is first put.

    Raises   StoreError where `root` is something else than a folder
    """

    is_local = True

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser().absolute()
        self.uri = str(self.root)
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file; a store needs a folder")

    def get(self, name: str) -> bytes | None:
        with self._told("read", name):
            try:
                with open(self._path(name), "rb", buffering=0) as file:
                    return file.read()
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise

    def get_many(self, names: Sequence[str]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def put(self, name: str, data: bytes) -> None:
        target = self._path(name)
        with self._told("write", name):
            draft = self._draft(data)
            try:
                self._publish(draft, target)
            finally:
                draft.unlink(missing_ok=True)

    def _draft(self, data: bytes) -> Path:
        """The data in a file that nobody looks for, on the disk; none where it could not be written whole."""
        draft = self.root / DRAFTS / f"{os.getpid()}.{secrets.token_hex(8)}"
        self._folder(draft.parent)
        try:
            with open(draft, "xb", buffering=0, opener=_private) as file:
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        return draft

    def _publish(self, draft: Path, target: Path) -> None:
        for attempt in range(1, TRIES + 1):
            self._folder(target.parent)
            try:
                os.replace(draft, target)
                return
            except FileNotFoundError:
                if attempt == TRIES or not draft.exists():
                    raise

    def _folder(self, folder: Path) -> None:
        """Make a folder and those above it, for this user alone."""
        if folder.is_dir():
            return
        if folder != self.root:
            self._folder(folder.parent)
        elif not folder.parent.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:
            self._folder(folder)

    def delete(self, name: str) -> None:
        path = self._path(name)
        with self._told("remove", name):
            path.unlink(missing_ok=True)
        # Folders that have become empty go too; one that has not stays, which is no mistake.
        with contextlib.suppress(OSError):
            for folder in path.parents:
                if folder == self.root:
                    break
                folder.rmdir()

    def find(self, name: str) -> Entry | None:
        with self._told("read", name):
            try:
                found = self._path(name).stat()
            except OSError as error:
                if error.errno in _GONE:
                    return None
                raise
            return Entry(name, found.st_size, found.st_mtime)

    def names(self, prefix: str = "") -> list[str]:
        with self._told("list", prefix):
            return [name for name, _ in self._walk(prefix.rpartition("/")[0]) if name.startswith(prefix)]

    def entries(self, prefix: str = "") -> list[Entry]:
        with self._told("list", prefix):
            found = self._walk(prefix.rpartition("/")[0])
            return [entry for name, file in found if name.startswith(prefix) for entry in _entry(name, file)]

    def _walk(self, folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Everything below a folder; what vanishes meanwhile is left out."""
        try:
            with os.scandir(self.root / folder) as found:
                inside = list(found)
        except (FileNotFoundError, NotADirectoryError):
            return
        for one in inside:
            name = f"{folder}/{one.name}" if folder else one.name
            if one.is_dir(follow_symlinks=False):
                if name != DRAFTS:
                    yield from self._walk(name)
            else:
                yield name, one

    def touch(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self._path(name))

    def sweep(self, grace_s: float) -> Swept:
        n, n_bytes, edge = 0, 0, time.time() - grace_s
        with self._told("sweep", DRAFTS):
            for entry in (entry for found in self._walk(DRAFTS) for entry in _entry(*found)):
                if entry.used_s <= edge:
                    (self.root / entry.name).unlink(missing_ok=True)
                    n, n_bytes = n + 1, n_bytes + entry.n_bytes
        return Swept(n, n_bytes)

    def free_bytes(self) -> int | None:
        folder = next(folder for folder in (self.root, *self.root.parents) if folder.is_dir())
        return shutil.disk_usage(folder).free

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    def _told(self, doing: str, name: str) -> Told:
        return Told(doing, name, self.uri)


def _entry(name: str, file: os.DirEntry[str]) -> list[Entry]:
    """What is known of a file, nothing where it has gone."""
    try:
        state = file.stat(follow_symlinks=False)
    except FileNotFoundError:
        return []
    return [Entry(name, state.st_size, state.st_mtime)]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
