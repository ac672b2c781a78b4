"""One place in the cache is where entries leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.start import StartObserver
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class SlotScore:
    """The entry in a fixed slot goes first: what stands before it never leaves, what comes behind slides.

    Shapes     → [B, H, T] float32, "free"
    Formula    e = n, or the entries held when decoding began + n where n < 0, at least 0;
               s_t = t for slots t ≥ e, 2T − t for those before, which go last, the later first
    Units      n: slots of a kv head, the oldest entry in slot 0
    Cost       H·T time; 4 bytes per kv head, row and layer where n < 0 (StartObserver)
    Phase      decode; in a prompt a negative n counts from the entries held at present
    Scope      layer; independent of the text
    Reduces to recency for n = 0
    Paper      Liu et al. 2024, arXiv 2407.18121            Confidence  official code
    """

    n: int = arg(-25, doc="the slot; below 0: so many before the end of what decoding began with")

    name: ClassVar[str] = "slot"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset({"sets:layer"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (StartObserver(),) if self.n < 0 else ()

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        slots = torch.arange(entries.live.shape[-1], device=entries.live.device, dtype=torch.float32)
        edge = torch.full(entries.lengths.shape, self.n, device=slots.device)
        if self.n < 0:
            start = stats["start"]
            edge = torch.where(start < 0, entries.lengths, start) + self.n
        is_fixed = slots < edge[..., None]
        ranks = torch.where(is_fixed, 2 * entries.live.shape[-1] - slots, slots)
        return Scores(ranks.masked_fill(~entries.live, 0.0))
