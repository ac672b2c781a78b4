"""What every part is: a frozen dataclass of arguments that says what it needs, gives and takes away.

Rooms    observe, score, rescore, allocate, select, act, transform, encode, and those of reading
         (`types.retrieve`): one protocol each; the composer walks them in river order. A part never opens
         files, draws from a generator, or keeps state.
Layers   Parts of one recipe that act on other floors (share, steer) follow the same shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from torch import Tensor

from keyvalise.types.data import Choice, Entries, Env, Piece, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount

Room = Literal[
    "score",
    "rescore",
    "allocate",
    "select",
    "act",
    "transform",
    "encode",
    "unit",
    "summary",
    "query",
    "group",
    "trigger",
    "read",
    "residual",
    "place",
]
DECIDING: tuple[Room, ...] = ("score", "rescore", "allocate", "select", "act")
CODING: tuple[Room, ...] = ("transform", "encode")
READING: tuple[Room, ...] = ("unit", "summary", "query", "group", "trigger", "read", "residual", "place")
ROOMS: tuple[Room, ...] = (*DECIDING, *CODING, *READING)

HOST_GIVES = frozenset({"keys", "values", "queries:piece", "lse", "out", "layers"})
"""Needs that any host with an attention function of our own satisfies."""

TAPS = frozenset({"ids", "hidden:embed", "hidden:final"})
"""Needs that only hooks on the model can satisfy: see `piece.taps`; final states come with `survey`."""

VOCABULARY = (
    HOST_GIVES
    | TAPS
    | {
        "rope",  # rotary embedding in at least one layer
        "rope:static",  # no rotary embedding that changes with length
        "scores:mass",  # a chain whose scores are ≥ 0 and sum to 1
        "scores:positive",  # a chain whose scores are ≥ 0
        "sets:head",  # kept sets may differ between the heads of a layer
        "layers:alike",  # an entry costs the same in all layers of the stage
        "sets:layer",  # one kept set for all heads of a layer
        "sets:model",  # one kept set for all heads of all layers
        "units:mean",  # mean keys of units
        "units:one",  # units of one entry
        "units:ranked",  # a logit of every unit
        "entries:near",  # entries in units as they came, where the model computes
        "units:alike",  # units that are the same in all heads of a layer
        "weight:o_proj",
        "weight:unembed",
        "weight:embed",
        "asset",
        "span",
    }
)
"""The closed vocabulary of needs; columns and stats of observers are added by the observers that give
them.
"""


class Part(Protocol):
    """What all parts share; `name` is the word in the text, unique over all rooms."""

    @property
    def name(self) -> str: ...
    @property
    def room(self) -> str: ...
    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def gives(self) -> frozenset[str]: ...
    @property
    def takes(self) -> frozenset[str]: ...


class Observer(Protocol):
    """Remembers something of what flowed by; never written in a text, a part lists its own.

    Law      updating with two halves of a piece equals updating with the whole
    """

    @property
    def stats(self) -> frozenset[str]: ...
    @property
    def columns(self) -> frozenset[str]: ...

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of its statistics for one row in one layer; every column costs 4 bytes per entry."""
        ...

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        """Statistics of a memory that has seen nothing, name → [B, …]."""
        ...

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(new stats, new columns [B, H, T]); entries already contain the piece."""
        ...


class Score(Part, Protocol):
    """How much does every entry matter? Values per query head, kv head or layer."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores: ...


View = tuple[Env, Entries, Mapping[str, Tensor]]
"""Surroundings, entries and statistics of a layer. A part that finds out for itself how much is kept may have
`came_to(view) -> str`, half a sentence on what it found.
"""


class SurveyScore(Part, Protocol):
    """A score that looks at all layers at once, when a call has ended; one Scores for every layer.

    `states` holds what the taps saw since the stage last acted, name → [B, C, E]: the last C columns.
    """

    scope: ClassVar[Literal["model"]]

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def survey(self, views: Sequence[View], states: Mapping[str, Tensor]) -> list[Scores]: ...


class Rescore(Part, Protocol):
    """Scores made of scores: pooled, reduced over heads, weighed with values."""

    @property
    def observers(self) -> tuple[Observer, ...]: ...

    def rescore(
        self, env: Env, scores: Scores, entries: Entries, stats: Mapping[str, Tensor], piece: Piece
    ) -> Scores: ...


class Allocate(Part, Protocol):
    """counts int64 [B, H] for one layer; `budget` int64 [B] is the layer's tokens at a uniform split.

    `binding` says whether counts sum to the budget after clipping to the lengths, or only stay below it;
    `is_uniform` that every head of a layer gets the same count.
    """

    binding: ClassVar[Literal["exact", "demanded", "layout"]]
    is_uniform: ClassVar[bool]

    def allocate(
        self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor
    ) -> Tensor: ...


Claim = tuple[Env, Scores, Tensor, Tensor, Tensor]
"""One layer's arguments of `allocate`: env, scores, protect, lengths, budget."""


class JointAllocate(Part, Protocol):
    """Counts int64 [B, H] of all layers at once; together they sum to the budgets, or stay below."""

    scope: ClassVar[Literal["model"]]
    binding: ClassVar[Literal["exact", "demanded", "layout"]]
    is_uniform: ClassVar[bool]

    def share(self, claims: Sequence[Claim]) -> list[Tensor]: ...


class Select(Part, Protocol):
    """Which entries exactly? As many as counted in every head, with what is added to their log-weights."""

    def select(
        self, env: Env, scores: Scores, counts: Tensor, protect: Tensor, entries: Entries, votes: Scores
    ) -> Choice: ...


class Act(Part, Protocol):
    """What happens to the losers. `own` is what it remembers of earlier ones; it returns the new sketch."""

    changes_keepers: ClassVar[bool]

    @property
    def sinks(self) -> Amount: ...
    @property
    def recent(self) -> Amount: ...

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]: ...

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        """Bytes in one layer beyond the kept entries."""
        ...


@runtime_checkable
class Demoting(Protocol):
    """An act that keeps its losers, written in the code that `code` names in the words of a recipe."""

    @property
    def code(self) -> str: ...
    @property
    def observers(self) -> tuple[Observer, ...]: ...
