"""Losers stay, in fewer bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyvalise.observe.extremes import ExtremesObserver
from keyvalise.types.argument import arg
from keyvalise.types.data import Choice, Entries, Env, Scores, Sketch
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.quantity import Amount


@dataclass(frozen=True, slots=True)
class DemoteAct:
    """What was not chosen is written in a code of its own and read by every later query; it is never judged
    again and never comes back.

    Shapes     the choice passes unchanged; the losers form a segment of their own
    Formula    balance: keys are written as k·b and read as they were, with q/b in their place,
               b_c = √(max |q_c| / max |k_c|) per row, kv head and channel, over all that was seen when the
               head's first loser left; 1 where either is zero
    Units      code: a code and its transforms, in the words of a recipe, such as int2 or 'center > int4'
               sinks, recent: tokens per kv head, or a share of the count that its stage keeps; never demoted
    Cost       the code's bytes and 4 bytes of ordinal per loser; 2·D bytes per row and kv head of balance,
               8·D of what it is found from
    Phase      after every decision; a budget pays for losers and keepers together
    Scope      per head: heads may demote different entries
    Needs      attention that merges segments; queries of the piece where it balances
    Reduces to drop where the code kept nothing; to the code alone where all are demoted
    Raises     BadArgument for a code whose tokens share parameters in groups: losers come one by one
    Differs    queries of a group share one balance, the largest of them decides (the paper is silent)
    Paper      Yang et al. 2024, arXiv 2402.18096           Confidence  paper
    """

    code: str = arg("int2", doc="how losers are written, as in a recipe")
    balance: bool = arg(True, doc="whether loud channels of keys are scaled down, and of queries up")
    sinks: Amount = arg(0, low=0, doc="first tokens that are never demoted", is_window=True)
    recent: Amount = arg(0, low=0, doc="last tokens that are never demoted", is_window=True)

    name: ClassVar[str] = "demote"
    room: ClassVar[str] = "act"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values", "lse", "queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    changes_keepers: ClassVar[bool] = False

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (ExtremesObserver(),) if self.balance else ()

    def act(
        self, env: Env, entries: Entries, choice: Choice, scores: Scores, own: Sketch | None
    ) -> tuple[Choice, Sketch | None]:
        return choice, own

    def cost(self, geometry: Geometry, seen: int, kept: int) -> int:
        """Of the balance; what losers take in their code is the recipe's business, which knows codes."""
        return 2 * geometry.n_kv_heads * geometry.key_dim if self.balance and kept < seen else 0
