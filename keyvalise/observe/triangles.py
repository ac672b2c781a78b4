"""Which span of its window every token belongs to, by how the tokens of a window attend to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import frames, stretches, triangles
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class TrianglesObserver:
    """Every `window` tokens of a row, counted from its first, are cut where their attention has triangles.

    Shapes     column "…_span" float32 [B, H, T]: spans before the token's own; stats
               "…_q" [B, Hq, window, D], "…_k" [B, H, window, D] in the geometry's dtype: the window that is
               not complete, zeros behind;  "…_n" int32 [B]: spans of those that are
    Formula    `ops.triangles`; tokens of a window that is not complete are one span until it is
    Cost       window·(Hq + H)·D·itemsize + 4 bytes per row and layer, 4 per entry and kv head; per token
               window·Hq·D time, and window·n for n spans of a window
    Needs      queries and keys of the piece
    Phase      every piece, prompt and decode
    Differs    queries and keys are compared in the dtype of the stored entries, wherever calls are cut
    """

    window: int
    theta: float
    least: int
    most: int
    sinks: int = 0

    @property
    def names(self) -> tuple[str, str, str]:
        own = self._own
        return f"{own}_q", f"{own}_k", f"{own}_n"

    @property
    def column(self) -> str:
        return f"{self._own}_span"

    @property
    def _own(self) -> str:
        return f"triangles{self.window}_{self.theta}_{self.least}_{self.most}_{self.sinks}"

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        n_heads = geometry.n_query_heads + geometry.n_kv_heads
        return self.window * n_heads * geometry.key_dim * geometry.itemsize + 4

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = env.geometry
        held = [
            torch.zeros(n_rows, n_heads, self.window, shape.key_dim, dtype=shape.dtype, device=device)
            for n_heads in (shape.n_query_heads, shape.n_kv_heads)
        ]
        none = torch.zeros(n_rows, dtype=torch.int32, device=device)
        return dict(zip(self.names, (*held, none), strict=True))

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        q_name, k_name, n_name = self.names
        frame = frames.Frame.of(piece.stretch, self.window, piece.q.device)
        pairs = ((stats[q_name], piece.q), (stats[k_name], piece.k))
        rule = triangles.Rule(self.theta, self.least, self.most)
        spans = triangles.of_windows(frame, pairs, rule, self.sinks, env.geometry)
        numbers, count = frame.numbered(spans, stats[n_name])
        q, k = (frame.taken(*pair, frame.done) for pair in pairs)
        column = stretches.column(entries, self.column, numbers, frame.ordinals)
        return {q_name: q, k_name: k, n_name: count}, {self.column: column}
