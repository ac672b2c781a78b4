"""Rows of bytes in a slow tier: host memory beside a device, or a file that belongs to this process alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from keyvalise.types.errors import NoRoom, TierLost
from keyvalise.types.slow import Slow

BLOCK = 2**24
"""Bytes that are written at once."""


class Spill(Protocol):
    """n rows of `width` bytes, written once.

    tier   "host" or "disk"
    """

    @property
    def tier(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def slow(self) -> Slow: ...

    def read(self, start: int, n: int) -> Tensor:
        """uint8 [n, width] in host memory, from row `start` on; counted as read.

        Raises   TierLost where the bytes are no longer there
        """
        ...

    def tensor(self) -> Tensor:
        """What stands for all rows in the ledger."""
        ...


@dataclass(frozen=True, eq=False)
class HostSpill:
    """Rows in host memory, in pages that a device can read by itself where there is one."""

    rows: Tensor
    slow: Slow

    tier: ClassVar[str] = "host"

    @staticmethod
    def of(rows: Tensor, slow: Slow) -> HostSpill:
        slow.claim("host", rows.numel())
        host = rows.cpu()
        made = HostSpill(host.pin_memory() if rows.is_cuda else host.clone(), slow)
        weakref.finalize(made, slow.release, "host", rows.numel())
        return made

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def read(self, start: int, n: int) -> Tensor:
        self.slow.count(n * self.width)
        return self.rows[start : start + n]

    def tensor(self) -> Tensor:
        return self.rows


@dataclass(frozen=True, eq=False)
class DiskSpill:
    """Rows in a file without a name: nobody can remove it while it is open, and it goes with this process."""

    number: int
    stands: Tensor
    slow: Slow

    tier: ClassVar[str] = "disk"

    @staticmethod
    def of(rows: Tensor, slow: Slow) -> DiskSpill:
        """Raises   NoRoom where the folder has too little; TierLost where it cannot be written"""
        folder, n_bytes = slow.folder or tempfile.gettempdir(), rows.numel()
        try:
            free = shutil.disk_usage(folder).free
            if n_bytes > free:
                raise NoRoom(f"entries on disk would take {n_bytes} bytes in {folder}, which has {free} left")
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                for block in rows.cpu().split(max(1, BLOCK // rows.shape[1])):
                    file.write(block.contiguous().numpy().tobytes())
                number = os.dup(file.fileno())
        except OSError as error:
            raise TierLost(f"entries cannot be written to {folder}: {error.strerror}") from None
        slow.claim("disk", n_bytes)
        made = DiskSpill(number, torch.empty(rows.shape, dtype=torch.uint8, device="meta"), slow)
        weakref.finalize(made, _close, made.number, slow, n_bytes)
        return made

    @property
    def width(self) -> int:
        return self.stands.shape[1]

    def read(self, start: int, n: int) -> Tensor:
        room = bytearray(n * self.width)
        view, done = memoryview(room), 0
        while done < len(view):
            try:
                got = os.preadv(self.number, [view[done:]], start * self.width + done)
            except OSError as error:
                raise TierLost(f"entries on disk cannot be read: {error.strerror}") from None
            if got == 0:
                raise TierLost("entries on disk are gone: their file has become shorter; make a new cache")
            done += got
        self.slow.count(done)
        rows = torch.frombuffer(room, dtype=torch.uint8) if done else torch.empty(0, dtype=torch.uint8)
        return rows.view(n, self.width)

    def tensor(self) -> Tensor:
        return self.stands


def _close(number: int, slow: Slow, n_bytes: int) -> None:
    os.close(number)
    slow.release("disk", n_bytes)


def packed(tensors: Iterable[Tensor]) -> Tensor:
    """uint8 [N, width]: the rows of tensors [N, …] side by side."""
    return torch.cat([x.contiguous().view(len(x), -1).view(torch.uint8) for x in tensors], 1)
