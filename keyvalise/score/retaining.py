"""What a trained head foresaw when the token came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.observe.retaining import RetainingObserver
from keyvalise.types.argument import asset
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class RetainingScore:
    """The largest logit that a later answer is expected to have with an entry, foreseen by a trained head.

    Shapes     → [B, H, T] float32, "logit"
    Formula    s_t = fc2·act(fc1·[q_t, k_t, v_t]), q and k un-rotated, one small network per layer; trained on
               max over answer queries and the group's query heads of q·k_t/√D (`keyvalise.train.locret`)
    Cost       nothing here; RetainingObserver pays E·(Hq·D + H·D + H·Dv) time per token and 4 bytes per entry
               and kv head while it is needed
    Needs      a retaining head for the model; queries, keys and values; a rotary embedding that does not
               change with length, or none
    Phase      prompt and decode                            Scope  layer, per kv head
    Differs    projections are taken as the attention gets them, turned back: behind the norms of queries and
               keys where a model has them. A score is held in float32
    Raises     AssetError where the head is missing, another model's, transposed or not finite
    Paper      Huang et al. 2024, arXiv 2410.01805          Confidence  official code
    """

    head: str = asset("locret", doc="trained retaining heads, one per layer", kind="retaining")

    name: ClassVar[str] = "retaining"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "values", "rope:static"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (self._observer,)

    @property
    def _observer(self) -> RetainingObserver:
        return RetainingObserver(self.head)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return Scores(entries.column(self._observer.column).masked_fill(~entries.live, 0.0), "logit")
