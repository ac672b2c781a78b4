"""How much a step reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keyvalise.types.argument import arg
from keyvalise.types.quantity import Amount, Share


@dataclass(frozen=True, slots=True)
class ReadReading:
    """The best units until `amount` entries are read, beside those that are always read.

    Formula    units in the order of their ranking while their entries together are at most `amount`
    Units      amount: entries per choice, or a share of those in units; sinks, recent, block: tokens
    Cost       amount·(D + Dv) numbers per choice and step, and sinks + recent + block more at most
    Phase      a call with several queries, such as a prompt, reads everything
    Scope      one unit at least is read, however little is asked for; units are read whole
    Reduces to full attention for 100%
    Differs    what lies in no unit yet (sinks, recent, and up to `block` more) is read on top of the amount
    """

    amount: Amount = arg(Share(2.0), low=1, doc="entries that a choice reads")
    sinks: int = arg(4, low=0, doc="first tokens, always read")
    recent: int = arg(64, low=0, doc="newest tokens, always read")
    block: int = arg(1024, low=1, doc="tokens that enter units together")

    name: ClassVar[str] = "read"
    room: ClassVar[str] = "read"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
