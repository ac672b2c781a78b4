"""The newest queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece, Stretch
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class WindowObserver:
    """The last n real queries of every row, newest last.

    Shapes     stats "window{n}_q" [B, Hq, n, D] in the geometry's dtype, "window{n}_ordinals" int32 [B, n];
               a row that has seen fewer than n holds zeros and ordinal −1 in front
    Cost       n·(Hq·D·itemsize + 4) bytes per row and layer; time n·Hq·D per piece
    Needs      queries of the piece
    Phase      every piece, prompt and decode
    Differs    queries are held in the dtype of the stored entries, not in float32
    """

    n: int

    @property
    def stats(self) -> frozenset[str]:
        return frozenset({self.q_name, self.ordinals_name})

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    @property
    def q_name(self) -> str:
        return f"window{self.n}_q"

    @property
    def ordinals_name(self) -> str:
        return f"window{self.n}_ordinals"

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return self.n * (geometry.n_query_heads * geometry.key_dim * geometry.itemsize + 4)

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_query_heads, self.n, env.geometry.key_dim)
        return {
            self.q_name: torch.zeros(shape, dtype=env.geometry.dtype, device=device),
            self.ordinals_name: torch.full((n_rows, self.n), -1, dtype=torch.int32, device=device),
        }

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        old, old_ordinals = stats[self.q_name], stats[self.ordinals_name]
        q, ordinals = piece.q, piece.stretch.ordinals(old.device)
        if piece.stretch.is_plain:
            newest = torch.cat([old, q[:, :, -self.n :].to(old.dtype)], 2)[:, :, -self.n :]
            numbers = torch.cat([old_ordinals, ordinals[:, -self.n :]], 1)[:, -self.n :]
            # Without a copy the view would hold on to the slots that fell out.
            return {self.q_name: newest.clone(), self.ordinals_name: numbers.clone()}, {}
        index = _newest(piece.stretch, self.n).to(old.device)
        columns = index[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])
        return {
            self.q_name: torch.cat([old, q.to(old.dtype)], 2).gather(2, columns),
            self.ordinals_name: torch.cat([old_ordinals, ordinals], 1).gather(1, index),
        }, {}


def _newest(stretch: Stretch, n: int) -> Tensor:
    """Where the last n real queries lie in (n old slots, then the stretch): int64 [B, n]."""
    rows = []
    for lead, count in zip(stretch.leads, stretch.counts, strict=True):
        rows.append([*range(n), *range(n + lead, n + lead + count)][-n:])
    return torch.tensor(rows)
