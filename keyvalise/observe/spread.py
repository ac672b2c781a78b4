"""Mean and variance of every feature of the queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import probe, rope
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry

BLOCK = 1024
"""Queries that are un-rotated at once."""


@dataclass(frozen=True, slots=True)
class SpreadObserver:
    """Count, mean and summed squared deviations of the un-rotated queries, feature by feature.

    Shapes     stats "spread_n" int32 [B], "spread_mean" and "spread_m2" float32 [B, Hq, D]
    Formula    Chan's merge of (n, mean, Σ (q − mean)²), block after block; spread_m2 / n is the variance
    Cost       4 + 8·Hq·D bytes per row and layer; S·Hq·D time
    Needs      queries of the piece; a rotary embedding that does not change with length, or none
    Phase      every piece, prompt and decode, from a row's first token on
    Reduces to the diagonal of MomentsObserver, at a D-th of its bytes
    """

    NAMES = ("spread_n", "spread_mean", "spread_m2")

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.NAMES)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 4 + 8 * geometry.n_query_heads * geometry.key_dim

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_query_heads, env.geometry.key_dim)
        count = torch.zeros(n_rows, dtype=torch.int32, device=device)
        zeros = (torch.zeros(shape, device=device) for _ in range(2))
        return dict(zip(self.NAMES, (count, *zeros), strict=True))

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = (stats["spread_n"], stats["spread_mean"], stats["spread_m2"])
        ordinals = piece.stretch.ordinals(piece.q.device)
        for begin in range(0, piece.q.shape[2], BLOCK):
            span = slice(begin, begin + BLOCK)
            q, places = piece.q[:, :, span].float(), ordinals[:, span]
            if env.rope is not None:
                q = rope.unrotate(q, places[:, None], env.rope)
            found = probe.merge(found, q, places >= 0)
        return dict(zip(self.NAMES, found, strict=True)), {}
