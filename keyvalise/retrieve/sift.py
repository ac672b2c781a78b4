"""A second look: of the units that are found, the entries that matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyvalise.types.argument import arg
from keyvalise.types.quantity import Amount, Share


@dataclass(frozen=True, slots=True)
class SiftReading:
    """The keys of the best units are looked at, and the best `amount` of their entries are read.

    Formula    units in the order of their ranking while their entries together are at most `within`; of these
               the entries with the largest Σ_g softmax_i(logit_gi), over the query heads g of a choice
    Units      amount, within: entries per choice, or shares of those in units; sinks, recent, block: tokens
    Cost       within·D numbers per choice and step for keys, amount·(D + Dv) for what is read, and sinks +
               recent + block more at most
    Needs      raw keys near by
    Phase      a call with several queries, such as a prompt, reads everything; units are chosen as the
               trigger says, entries at every step, by the step's own queries
    Scope      per kv head, or per query head where these choose units; one unit at least is looked at
    Reduces to read where amount and within are the same; to exact search for within=100%; to full attention
               for an amount of 100%
    Differs    ours. Entries that are looked at and not read are not estimated either
    """

    amount: Amount = arg(Share(2.0), low=1, doc="entries that a choice reads")
    within: Amount = arg(Share(25.0), low=1, doc="entries of the units whose keys are looked at")
    sinks: int = arg(4, low=0, doc="first tokens, always read")
    recent: int = arg(64, low=0, doc="newest tokens, always read")
    block: int = arg(1024, low=1, doc="tokens that enter units together")

    name: ClassVar[str] = "sift"
    room: ClassVar[str] = "read"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "entries:near"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
