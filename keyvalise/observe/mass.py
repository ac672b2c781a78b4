"""Accumulated attention per entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from keyvalise.ops import mass
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class MassObserver:
    """Column "mass": the attention an entry has received since it arrived, as the mean over its group.

    Shapes     column "mass" float32 [B, H, T]; no statistics
    Formula    mass_t = Σ_s mean_g exp(scale·q_gs·k_t + logw_t − lse_gs) over all queries s ≥ t so far
    Cost       Hq·S·T·D time, half of it for a first piece; 8 MiB of logits, 64 on an
               accelerator; 4 bytes per entry and kv head
    Needs      queries, keys and lse of the piece
    Phase      every piece, prompt and decode
    Differs    no second column counts the queries that saw an entry: an entry is seen by every query from its
               own on, so their number is (tokens seen − ordinal). An entry that was taken over from another
               cache, or whose column was dropped between two prompts, begins at zero mass although earlier
               queries saw it.
    """

    @property
    def stats(self) -> frozenset[str]:
        return frozenset()

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"mass"})

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 0

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        return {}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        before = entries.column("mass").masked_fill(~entries.live, 0.0)
        return {}, {"mass": before + mass.column_sums(env.geometry, piece, entries)}
