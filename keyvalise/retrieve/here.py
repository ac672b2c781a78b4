"""Where entries in units lie: where all others are, or in a tier that is larger and slower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyvalise.types.argument import arg
from keyvalise.types.quantity import Amount, Share


@dataclass(frozen=True, slots=True)
class HerePlace:
    """Entries lie where the model computes.

    Formula    none: what is read is read where it lies
    Scope      layer
    """

    name: ClassVar[str] = "here"
    room: ClassVar[str] = "place"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    tier: ClassVar[str] = "device"
    cache: ClassVar[Amount] = 0


@dataclass(frozen=True, slots=True)
class HostPlace:
    """Entries lie in host memory, and what a step reads is brought over.

    Formula    none: where entries lie changes no answer
    Units      cache: entries that may stay near once they have been read, of all (row, kv head), or a share
    Cost       all entries in host memory; what a step reads passes over the bus, but for what is cached
    Needs      `read` in units; a limit that host memory may not exceed (`--host-memory`)
    Scope      layer
    Reduces to here, at the cost of copies, where the model computes on the host
    Paper      Chen et al. 2025, arXiv 2505.02922; Luo et al. 2025, arXiv 2502.12574    Confidence  official
               code
    """

    cache: Amount = arg(Share(5.0), low=0, doc="entries that may stay near once read")

    name: ClassVar[str] = "host"
    room: ClassVar[str] = "place"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    tier: ClassVar[str] = "host"


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """Entries lie in a file without a name that goes with the process.

    Formula    none: where entries lie changes no answer
    Units      cache: entries that may stay near once they have been read, of all (row, kv head), or a share
    Cost       all entries on disk, beside what summaries and ordinals take in memory; a step reads its units
    Needs      `read` in units; a folder with room (`KEYVALISE_SPILL`, or the system's own)
    Scope      layer
    Raises     TierLost where the file can no longer be read
    """

    cache: Amount = arg(Share(5.0), low=0, doc="entries that may stay near once read")

    name: ClassVar[str] = "disk"
    room: ClassVar[str] = "place"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    tier: ClassVar[str] = "disk"
