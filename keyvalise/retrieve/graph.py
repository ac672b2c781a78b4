"""A graph over keys that knows which of them are wanted together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.sample import SampleObserver
from keyvalise.ops import graph
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
    Cost       8·degree + 1 bytes per key, and the sample; making it: sample·n·D and n searches; a step: a few
               percent of the keys are compared
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
        entries, keys = cut.entries, cut.entries.keys()
        n_rows, n_heads, n_units = cut.sizes.shape
        edges = torch.full((n_rows, n_heads, n_units, 2 * self.degree), -1, dtype=torch.int32)
        entry = torch.zeros(n_rows, n_heads, n_units, dtype=torch.bool)
        for row in range(n_rows):
            asked = self._asked(cut, row, n_heads)
            for head in range(n_heads):
                n = int(entries.lengths[row, head])
                if n:
                    made = graph.build(
                        keys[row, head, :n], asked[head], degree=self.degree, beam=self.beam, truth=100
                    )
                    edges[row, head, :n], entry[row, head, made.entry] = made.edges, True
        return {"edges": edges, "entry": entry}

    def _asked(self, cut: Cut, row: int, n_heads: int) -> Tensor:
        """float32 [H, G·m, D]: the queries that a kv head learns from."""
        if not self.sample:
            return cut.entries.keys()[row, :, :0].float()
        q_name, ordinals_name = SampleObserver(self.sample).names
        q = cut.stats[q_name][row, :, cut.stats[ordinals_name][row] >= 0].float()
        grouped: Tensor = q.unflatten(0, (n_heads, -1)).flatten(1, 2)
        return grouped

    def search(self, env: Env, table: Table, q: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The n best units [B, Hq, n], −1 where fewer were met, and their logits."""
        n_rows, n_heads = table.sizes.shape[:2]
        grouped = q.unflatten(1, (n_heads, -1)).float()
        units = torch.full((*grouped.shape[:3], n), -1, dtype=torch.long)
        logits = torch.full(units.shape, -torch.inf)
        for row in range(n_rows):
            for head in range(n_heads):
                keys = table.keys(row * n_heads + head)
                if len(keys):
                    entry = int(table.summaries["entry"][row, head].int().argmax())
                    known = graph.Graph(table.summaries["edges"][row, head, : len(keys)].contiguous(), entry)
                    k = min(n, len(keys))
                    found, _ = graph.search(
                        known, keys, grouped[row, head], k, max(k, min(self.width, len(keys)))
                    )
                    units[row, head, :, :k] = found
                    near = keys[found.clamp(min=0).long()].float()
                    own = torch.einsum("gkd,gd->gk", near, grouped[row, head])
                    logits[row, head, :, :k] = own.masked_fill(found < 0, -torch.inf)
        return units.flatten(1, 2), env.geometry.scale * logits.flatten(1, 2)
