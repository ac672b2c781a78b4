"""Losers are forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount


@dataclass(frozen=True, slots=True)
class DropAct:
    """What was not chosen leaves the memory and its bytes are freed.

    Shapes     the choice passes unchanged; no sketch
    Units      sinks, recent: tokens per kv head, or a share of the count that its stage keeps; always kept,
               and counted inside the budget
               only: the name of a span, see KVCache.span; what lies outside it is protected as well. Without
               a name the whole text is the span
    Formula    positions=absolute reads a key at the token's own position; slot at its place among the stored
               entries, as if the dropped ones had never been
    Cost       nothing beyond the kept entries
    Scope      per head: heads may end with different entries
    Raises     InputError, before a call is taken in, where nobody has marked the span. Where more lies
               outside it than the budget keeps, the newest of it stay after the sinks, and the ledger says so
    """

    sinks: Amount = arg(0, low=0, doc="first tokens that always stay", is_window=True)
    recent: Amount = arg(0, low=0, doc="last tokens that always stay", is_window=True)
    positions: str = arg(
        "absolute", choices=("absolute", "slot"), doc="what turns a stored key when it is read"
    )
    only: str = arg("", doc="span outside which everything stays; no name: the whole text is the span")

    name: ClassVar[str] = "drop"
    room: ClassVar[str] = "act"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    changes_keepers: ClassVar[bool] = False

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]:
        return choice, own

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        return 0
