"""How many entries are answered by reading few: what is read together, what stands for it, who chooses.

Rooms    unit, summary, query, group, trigger, read, residual, place: one protocol each; together they are a
         `Retrieve`, which is all that the store knows of them
Axes     U units of a head, those of the head that has most; A choices per row: one for every query head, for
         every kv head, or for the layer
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from keyvalise.types.data import Entries, Env, Partial, Queries
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer, Part
from keyvalise.types.quantity import Amount

Memo = Mapping[str, Tensor]
"""What is remembered about reading: name → [B, …]."""

CHOICES = ("exact", "estimate")
"""What of it are units, [B, A, n]."""

STALE = "stale"
"""What of it says which rows must choose anew, bool [B], whatever their trigger says."""

Summaries = Mapping[str, Tensor]
"""What stands for the units of a block: name → [B, H, U, …]; anything finite where there is no unit."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is known of a block's units without reading them.

    Shapes   sizes int32 [B, H, U]: entries of every unit, 0 where there is none;  keys(row·H + head) → [n, D]
             of that head's entries, unit by unit, where they lie near
    """

    sizes: Tensor
    summaries: Summaries
    keys: Callable[[int], Tensor]


@dataclass(frozen=True, slots=True)
class Reads:
    """Which units are read, and which are answered for by their summaries.

    Shapes   exact int64 [B, A, n], estimate int64 [B, A, m] or None: units of all tables side by side,
             −1 where there is none; no unit stands in both
    """

    exact: Tensor
    estimate: Tensor | None = None


class Unit(Part, Protocol):
    """Which entries are read together. `keeps_order`: units follow one another as their entries do."""

    keeps_order: bool

    @property
    def observers(self) -> tuple[Observer, ...]: ...
    @property
    def length(self) -> float:
        """Entries of a unit, on average at least."""
        ...

    def cut(self, env: Env, entries: Entries) -> Tensor:
        """int64 [B, H, T]: the unit of every entry of a block, counted from 0 in every head; anything at
        least 0 where none lives.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cut:
    """Entries of a block, whose units they are, how many units every head has room for, and the statistics of
    the layer.

    Shapes   unit int64 [B, H, T], sizes int32 [B, H, U]
    """

    entries: Entries
    unit: Tensor
    sizes: Tensor
    stats: Mapping[str, Tensor]


class Summary(Part, Protocol):
    """What stands for a unit, and what a query thinks of it.

    Law      a unit of one entry is ranked like its key
    """

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def unit_bytes(self, geometry: Geometry) -> int:
        """Bytes that stand for one unit of one kv head."""
        ...

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        """Summaries of a block."""
        ...

    def score(self, env: Env, table: Table, q: Tensor) -> Tensor:
        """float32 [B, Hq, U] for q float32 [B, Hq, D]: logits of the units, anything where there is none."""
        ...


@runtime_checkable
class Searching(Protocol):
    """A summary that finds units without asking all; its blocks are never joined."""

    def search(self, env: Env, table: Table, q: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The n best units int64 [B, Hq, n], −1 where there are fewer, and their logits."""
        ...


class Asking(Part, Protocol):
    """The query that searches, float32 [B, Hq, D]; rows where it is not ready, bool [B], read everything."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def query(self, env: Env, queries: Queries) -> Tensor: ...
    def is_ready(self, env: Env, queries: Queries) -> Tensor | None: ...


class Grouping(Part, Protocol):
    """One ranking float32 [B, A, U] out of the logits [B, Hq, U] of all query heads.

    sizes   int32 [B, H, U]; units without entries get any rank
    """

    def ranking(self, env: Env, logits: Tensor, sizes: Tensor) -> Tensor: ...


class Trigger(Part, Protocol):
    """In which rows units are chosen anew, bool [B]; in the others the last choice holds."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def due(self, env: Env, queries: Queries) -> Tensor: ...


class Reading(Part, Protocol):
    """How much is read of what is stored, and what stays outside of all units.

    amount   entries that one choice reads, or a share of those in units;  sinks, recent: always read
    block    tokens that enter units together
    """

    @property
    def amount(self) -> Amount: ...
    @property
    def sinks(self) -> int: ...
    @property
    def recent(self) -> int: ...
    @property
    def block(self) -> int: ...


@runtime_checkable
class Adapting(Protocol):
    """A reading that knows by the scores of a step how much it reads."""

    def amounts(
        self, logits: Tensor, sizes: Tensor, amounts: Tensor, memo: Memo
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Entries that every choice reads, int64 [B, A], and what of it is remembered, name → [B, A, …].

        logits    float32 [B, Hq, U], anything where there is no unit;  sizes: int32 [B, H, U]
        amounts   int64 [B, A], as `Reading.amount` has them;  memo: what was remembered, if anything
        """
        ...


@runtime_checkable
class Sifting(Protocol):
    """A reading that looks at the keys of chosen units and reads the best entries.

    within   entries of the units that are looked at, or a share of those in units; `amount` of them are read
    """

    @property
    def within(self) -> Amount: ...


class Residual(Part, Protocol):
    """What becomes of units that are not read. `amount` of entries are answered for by their summaries."""

    @property
    def amount(self) -> Amount: ...

    def unit_bytes(self, geometry: Geometry) -> int: ...

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]: ...

    def answer(self, env: Env, summaries: Summaries, units: Tensor, queries: Queries) -> Partial:
        """The units' part of the answer; `units` int64 [B, A ≥ H, m], −1 where there is none."""
        ...


class Place(Part, Protocol):
    """Where entries in units lie: "device", "host" or "disk".

    cache   entries that may stay near once they have been read, or a share of all
    """

    tier: str

    @property
    def cache(self) -> Amount: ...


@runtime_checkable
class Retrieve(Protocol):
    """Everything about reading that a segment asks for."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...
    @property
    def read(self) -> Reading: ...
    @property
    def place(self) -> Place: ...
    @property
    def joins(self) -> bool:
        """Whether blocks may be joined."""
        ...

    @property
    def sifting(self) -> Sifting | None:
        """`read`, if it picks entries one by one."""
        ...

    @property
    def reads_all(self) -> bool:
        """Whether every step reads everything."""
        ...

    def cut(self, env: Env, entries: Entries) -> Tensor:
        """See `Unit.cut`."""
        ...

    def summaries(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        """All that is to be known of a block's units beside their sizes."""
        ...

    def search(self, env: Env, tables: Sequence[Table], queries: Queries, memo: Memo) -> tuple[Reads, Memo]:
        """The units that one query per head reads."""
        ...

    def guess(self, env: Env, tables: Sequence[Table], units: Tensor, queries: Queries) -> Partial:
        """What the summaries of these units, [B, A, m], answer."""
        ...
