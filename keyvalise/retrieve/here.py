"""Entries in units stay where all others are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


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
