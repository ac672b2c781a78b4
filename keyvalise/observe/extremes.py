"""The largest query and key of every channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class ExtremesObserver:
    """max |q| and max |k| of every channel of a kv head, over all that a row has seen.

    Shapes     stats "extreme_q", "extreme_k" float32 [B, H, D]; a kv head's queries are those of its group
    Formula    the larger of what was known and of the piece's own real tokens
    Cost       8·H·D bytes per row and layer; S·Hq·D time
    Needs      queries of the piece, as they are stored: behind the rotary embedding
    Phase      every piece, prompt and decode
    Reduces to zeros where a row has seen nothing
    """

    NAMES = ("extreme_q", "extreme_k")

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.NAMES)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 8 * geometry.n_kv_heads * geometry.key_dim

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_kv_heads, env.geometry.key_dim)
        return {name: torch.zeros(shape, device=device) for name in self.NAMES}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if piece.k.shape[2] == 0:
            return dict(stats), {}
        is_real = (piece.stretch.ordinals(piece.q.device) >= 0)[:, None, :, None]
        most_q, most_k = (torch.where(is_real, x.abs(), 0).amax(2).float() for x in (piece.q, piece.k))
        grouped = most_q.unflatten(1, (env.geometry.n_kv_heads, -1)).amax(2)
        return {
            "extreme_q": torch.maximum(stats["extreme_q"], grouped),
            "extreme_k": torch.maximum(stats["extreme_k"], most_k),
        }, {}
