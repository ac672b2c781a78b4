"""Spans: tokens that follow one another and attend to one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.triangles import TrianglesObserver
from keyvalise.ops import stretches
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class SpansUnit:
    """The entries of a head whose tokens make a dense triangle of attention, and those between two of them.

    Shapes     → int64 [B, H, T]
    Formula    in every window, A_ij = i's visible tokens · mean_h softmax_j(scale·q_hi·k_hj), 1 where all are
               alike; S(x, y) = Σ_{x ≤ j ≤ i ≤ y} (A_ij − theta); the span with the largest S > 0 of `least`
               to `most` tokens, then the next one that shares none with those before; what is left between
               two is a unit, cut after every `most` entries
    Units      window, least, most, sinks: tokens;  theta: times the attention that all tokens alike would get
    Cost       TrianglesObserver: window·(Hq + H)·D numbers per row and layer, 4 bytes per entry and kv head
               until it is in a unit; a budget counts with a unit for every entry, for of most spans one token
               may be left
    Needs      queries and keys
    Phase      windows begin at multiples of `window`; a block is cut when it is complete, and what is in it
               of a window that is not is one span
    Scope      per kv head; the same in all heads where all keep the same tokens
    Differs    attention is that of a window alone, rows are weighed by what they see, or late spans would
               look thin, and sinks take no part; theta, the lengths and that spans are disjoint are ours. A
               row is 1 on average, so that for theta ≥ 1 no span begins with a window: its first tokens are
               what is left before one
    Paper      Tang et al. 2024, arXiv 2412.04757           Confidence  reconstruction
    """

    window: int = arg(128, low=1, doc="tokens that are cut at a time")
    theta: float = arg(2.0, low=0.0, doc="attention that makes a span dense, over that of all alike")
    least: int = arg(2, low=1, doc="tokens of a span at least")
    most: int = arg(64, low=1, doc="entries of a unit at most")
    sinks: int = arg(4, low=0, doc="first tokens, which are in no span")

    name: ClassVar[str] = "spans"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "queries:piece"})
    gives: ClassVar[frozenset[str]] = frozenset({"units:alike"})
    takes: ClassVar[frozenset[str]] = frozenset()
    keeps_order: ClassVar[bool] = True
    length: ClassVar[float] = 1.0

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (self._observer,)

    @property
    def _observer(self) -> TrianglesObserver:
        return TrianglesObserver(self.window, self.theta, self.least, self.most, self.sinks)

    def cut(self, env: Env, entries: Entries) -> Tensor:
        return stretches.units(entries.column(self._observer.column), entries.live, self.most)
