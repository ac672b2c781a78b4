"""A graph over keys that knows which of them are wanted together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.sample import SampleObserver
from keyvalise.ops import graphs
from keyvalise.types.argument import arg
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.retrieve import Cut, Table


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """Keys are linked that one query would read together; a search walks along these links.

    Shapes     "edges" int32 [B, H, U, 2·degree], "entry" bool [B, H, U]
    Formula    see `ops.graph`: the best keys of sampled queries, projected onto keys, made connected
    Units      sample: queries of the prompt and head;  degree: links of a key, twice;  beam, width: keys that
               a search holds while the graph is made, and at a step, at least as many as are read
    Cost       8·degree + 1 bytes per key, and the sample; making it: sample·n·D and n searches; a step
               compares the keys that it meets, each once: 2·degree of every one held at most
    Needs      units of one entry, raw keys near by, queries
    Phase      made when a block is complete, from the queries so far
    Scope      per query head; links are the kv head's, made by the queries of its whole group
    Differs    degree, truth and beam are RoarGraph's own scaled down, for the paper's are unknown; queries
               are sampled; see `ops.graph`
    Paper      Liu et al. 2024, arXiv 2409.10516; Chen et al. 2024, arXiv 2408.08933    Confidence  official
               code
    """

    sample: int = arg(512, low=0, doc="queries of the prompt that links are learnt from")
    degree: int = arg(24, low=1, doc="links of a key, of each of two kinds")
    beam: int = arg(128, low=1, doc="keys held while the graph is made")
    width: int = arg(128, low=1, doc="keys held at a step, at least as many as are read")

    name: ClassVar[str] = "graph"
    room: ClassVar[str] = "summary"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "queries:piece", "units:one", "entries:near"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (SampleObserver(self.sample),) if self.sample else ()

    def unit_bytes(self, geometry: Geometry) -> int:
        return 8 * self.degree + 1

    def build(self, env: Env, cut: Cut) -> dict[str, Tensor]:
        entries, n_heads = cut.entries, cut.sizes.shape[1]
        asked = [self._asked(cut, row, n_heads) for row in range(len(cut.sizes))]
        keys = entries.keys()[:, :, : cut.sizes.shape[-1]]
        made = graphs.build(keys, entries.lengths, asked, degree=self.degree, beam=self.beam)
        return made._asdict()

    def _asked(self, cut: Cut, row: int, n_heads: int) -> Tensor:
        """float32 [H, G·m, D]: the queries that a kv head learns from."""
        if not self.sample:
            return cut.entries.keys()[row, :, :0].float()
        q_name, ordinals_name = SampleObserver(self.sample).names
        q = cut.stats[q_name][row, :, cut.stats[ordinals_name][row] >= 0].float()
        grouped: Tensor = q.unflatten(0, (n_heads, -1)).flatten(1, 2)
        return grouped

    def search(self, env: Env, table: Table, q: Tensor, n: int) -> tuple[Tensor, Tensor]:
        known = graphs.Graphs(**table.summaries)
        grouped = q.unflatten(1, (table.sizes.shape[1], -1)).float()
        found, products = graphs.search(known, table.keys, grouped, n=n, width=self.width)
        return found.flatten(1, 2), env.geometry.scale * products.flatten(1, 2)
