"""The baseline that knows nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from keyvalise.ops import hashing
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class RandomScore:
    """A uniform draw per layer, kv head and ordinal.

    Shapes     → [B, H, T] float32, "free", within 0 … 1
    Formula    s_t = hash(seed, layer, kv head, ordinal_t)
    Cost       H·T time; three int64 temporaries; no state
    Phase      prompt and decode; an entry keeps its draw, so repeated stages keep the best draws of all so
               far, which is a uniform sample of everything seen
    Scope      layer; not invariant to a permutation of the heads
    Differs    rows of a batch share draws at equal ordinals: a batch equals its rows one by one
    """

    name: ClassVar[str] = "random"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        return Scores(hashing.per_entry(env, "random", entries).float().masked_fill(~entries.live, 0.0))
