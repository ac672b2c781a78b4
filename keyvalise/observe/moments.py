"""Mean and covariance of the queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import moments, rope
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry

BLOCK = 1024
"""Queries that are un-rotated at once."""


@dataclass(frozen=True, slots=True)
class MomentsObserver:
    """Count, mean and scatter of the un-rotated queries of every query head, from ordinal `skip` on.

    Shapes     stats "moments{skip}_n" int32 [B], "moments{skip}_mean" float32 [B, Hq, D],
               "moments{skip}_m2" float32 [B, Hq, D, D] (divided by n: the covariance)
    Formula    Chan's merge of (n, mean, Σ (q − mean)(q − mean)ᵀ), block after block
    Cost       4 + 4·Hq·D·(1 + D) bytes per row and layer; S·Hq·D² time
    Needs      queries of the piece; a rotary embedding that does not change with length, or none
    Phase      every piece, prompt and decode
    Reduces to the moments of q itself for a model without rotary embedding
    """

    skip: int = 0

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    @property
    def names(self) -> tuple[str, str, str]:
        return (f"moments{self.skip}_n", f"moments{self.skip}_mean", f"moments{self.skip}_m2")

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 4 + 4 * geometry.n_query_heads * geometry.key_dim * (1 + geometry.key_dim)

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        n_heads, dim = env.geometry.n_query_heads, env.geometry.key_dim
        count, mean, scatter = self.names
        return {
            count: torch.zeros(n_rows, dtype=torch.int32, device=device),
            mean: torch.zeros((n_rows, n_heads, dim), device=device),
            scatter: torch.zeros((n_rows, n_heads, dim, dim), device=device),
        }

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        found = (stats[self.names[0]], stats[self.names[1]], stats[self.names[2]])
        ordinals = piece.stretch.ordinals(piece.q.device)
        for begin in range(0, piece.q.shape[2], BLOCK):
            span = slice(begin, begin + BLOCK)
            q, positions = piece.q[:, :, span].float(), ordinals[:, span]
            if env.rope is not None:
                q = rope.unrotate(q, positions[:, None], env.rope)
            found = moments.merge(found, q, positions >= self.skip)
        return dict(zip(self.names, found, strict=True)), {}
