"""Clusters: entries whose keys are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from keyvalise.ops import clusters
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class ClustersUnit:
    """Keys of one stretch that point the same way once their mean is taken off, or that lie close: k-means.

    Shapes     → int64 [B, H, T]
    Formula    stretches of about `segment` entries, n-th parts of each as clusters; assignment by the largest
               inner product with centred keys, centres at the directions of their means, at the means
               themselves in the last of `passes` rounds; by distance: to the nearest mean in every round
    Units      n: entries of a cluster on average;  segment: entries
    Cost       passes·T·segment/n·D time per kv head; entries leave their order, so that each keeps its
               ordinal (4 bytes)
    Needs      keys
    Phase      a block is cut when it is complete, and never again
    Scope      per kv head; no draws
    Reduces to tokens for n = 1 and keys that all differ in direction
    Differs    keys are centred within their stretch, and every key stays in it in the last round, as the
               paper has it; the official code then looks among the clusters of all stretches. Stretches
               of a head are equally long but for one entry. Distance is ours
    Paper      Chen et al. 2025, arXiv 2505.02922           Confidence  official code
    """

    n: int = arg(16, low=1, doc="entries of a cluster, on average")
    segment: int = arg(8192, low=1, doc="entries that are cut at a time")
    passes: int = arg(10, low=1, doc="rounds of k-means")
    by: Literal["direction", "distance"] = arg(
        "direction", choices=("direction", "distance"), doc="what makes keys alike"
    )

    name: ClassVar[str] = "clusters"
    room: ClassVar[str] = "unit"
    needs: ClassVar[frozenset[str]] = frozenset({"keys"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    observers: ClassVar[tuple[Observer, ...]] = ()
    keeps_order: ClassVar[bool] = False

    @property
    def length(self) -> float:
        return float(self.n)

    def cut(self, env: Env, entries: Entries) -> Tensor:
        lengths, how = entries.lengths.long(), {"passes": self.passes, "measure": self.by}
        return clusters.of_heads(entries.keys(), lengths, self.n, segment=self.segment, **how)
