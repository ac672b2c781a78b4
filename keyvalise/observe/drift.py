"""How often the direction of the queries has changed, and which way they point now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import drift, stretches
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class DriftObserver:
    """A stretch of tokens ends where a query points elsewhere than the one before.

    Shapes     column "…_stretch" float32 [B, H, T]: stretches before the token's own; stats "…_n",
               "…_length" int32 [B]: stretches begun, tokens of the present one; "…_q" float32 [B, Hq, D]: the
               newest query, un-rotated
    Formula    r_t = mean over query heads of cos(q_{t−1}, q_t); a token with r_t < tau begins a stretch,
               unless the present one has fewer than `least` tokens
    Cost       8 + 4·Hq·D bytes per row and layer, 4 per entry and kv head; S·Hq·D time
    Needs      queries of the piece
    Phase      every piece; a prompt is one stretch
    """

    tau: float
    least: int

    @property
    def names(self) -> tuple[str, str, str]:
        own = f"drift{self.tau}_{self.least}"
        return f"{own}_n", f"{own}_length", f"{own}_q"

    @property
    def column(self) -> str:
        return f"drift{self.tau}_{self.least}_stretch"

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 8 + 4 * geometry.n_query_heads * geometry.key_dim

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_query_heads, env.geometry.key_dim)
        counts = [torch.zeros(n_rows, dtype=torch.int32, device=device) for _ in range(2)]
        return dict(zip(self.names, (*counts, torch.zeros(shape, device=device)), strict=True))

    def has_drifted(self, env: Env, stats: Mapping[str, Tensor], q: Tensor, ordinals: Tensor) -> Tensor:
        """bool [B]: whether the query [B, Hq, D] of this ordinal [B] points elsewhere than the newest."""
        course = drift.Course(*(stats[name] for name in self.names))
        return drift.Rule(self.tau, self.least, env.rope).begins(course, q, ordinals)

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        course = drift.Course(*(stats[name] for name in self.names))
        ordinals, rule = piece.stretch.ordinals(piece.q.device), drift.Rule(self.tau, self.least, env.rope)
        course, numbers = rule.advance(course, piece.q, ordinals, piece.is_prompt)
        column = stretches.column(entries, self.column, numbers, ordinals)
        return dict(zip(self.names, course, strict=True)), {self.column: column}
