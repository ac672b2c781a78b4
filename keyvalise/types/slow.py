"""What one cache knows of the tiers that are larger and slower than where the model computes."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from keyvalise.types.errors import NoRoom


@dataclass
class Slow:
    """How much may lie in host memory, where files go, what lies where, and what was read.

    host_bytes   most that may lie in host memory, None: no limit;  folder: of files, None: the system's own
    held         tier → bytes that lie there now
    read_bytes   read from slow tiers since the cache was made;  step_bytes: in the latest forward
    """

    host_bytes: int | None = None
    folder: str | None = None
    held: dict[str, int] = field(default_factory=dict)
    read_bytes: int = 0
    before: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def step_bytes(self) -> int:
        return self.read_bytes - self.before

    def step(self) -> None:
        """A forward begins."""
        self.before = self.read_bytes

    def count(self, n_bytes: int) -> None:
        """So many were read, by whichever thread."""
        with self.lock:
            self.read_bytes += n_bytes

    def claim(self, tier: str, n_bytes: int) -> None:
        """Take room in a tier.

        Raises   NoRoom where host memory would hold more than it may
        """
        total = self.held.get(tier, 0) + n_bytes
        if tier == "host" and self.host_bytes is not None and total > self.host_bytes:
            raise NoRoom(
                f"entries in host memory would take {total} bytes, and {self.host_bytes} are allowed; allow "
                "more with --host-memory, read from disk, or write entries in a code"
            )
        self.held[tier] = total

    def release(self, tier: str, n_bytes: int) -> None:
        """Give room back."""
        self.held[tier] -= n_bytes
