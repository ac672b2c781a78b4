"""Some of the prompt's queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class SampleObserver:
    """At most n queries of every row at even distances, of those that it has seen.

    Shapes     stats "sample{n}_q" [B, Hq, n, D] in the geometry's dtype, "sample{n}_ordinals" int32 [B, n];
               −1 where a row has seen fewer
    Formula    the ordinals divisible by the least power of two that leaves at most n of them
    Cost       n·(Hq·D·itemsize + 4) bytes per row and layer; time n·Hq·D per piece
    Needs      queries of the piece
    Phase      every piece, prompt and decode
    """

    n: int

    @property
    def names(self) -> tuple[str, str]:
        return f"sample{self.n}_q", f"sample{self.n}_ordinals"

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.names)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return self.n * (geometry.n_query_heads * geometry.key_dim * geometry.itemsize + 4)

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_query_heads, self.n, env.geometry.key_dim)
        q = torch.zeros(shape, dtype=env.geometry.dtype, device=device)
        ordinals = torch.full((n_rows, self.n), -1, dtype=torch.int32, device=device)
        return dict(zip(self.names, (q, ordinals), strict=True))

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        old, known = (stats[name] for name in self.names)
        ordinals = torch.cat([known, piece.stretch.ordinals(known.device)], 1)
        seen = ordinals.amax(1) + 1
        steps = 2 ** torch.ceil(torch.log2(seen.clamp(min=1) / self.n)).clamp(min=0).int()
        stays = (ordinals >= 0) & (ordinals % steps[:, None] == 0)
        place = torch.argsort(~stays, dim=1, stable=True)[:, : self.n]
        q = torch.cat([old, piece.q.to(old.dtype)], 2)
        index = place[:, None, :, None].expand(-1, q.shape[1], -1, q.shape[3])
        kept = ordinals.gather(1, place).masked_fill(~stays.gather(1, place), -1)
        return dict(zip(self.names, (q.gather(2, index), kept), strict=True)), {}
