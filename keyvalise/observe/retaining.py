"""What a trained head makes of every token when it arrives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import retain
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry

BLOCK = 1024
"""Tokens that are read at once."""


@dataclass(frozen=True, slots=True)
class RetainingObserver:
    """A column that is computed once, from the token's own queries, key and value, and never changes.

    Shapes     column "retaining_{head}" float32 [B, H, T]; no statistics; the asset's fc1 [L, E, Hq·D + H·D +
               H·Dv] and fc2 [L, H, E]
    Formula    fc2·act(fc1·[q, k, v]) with queries and keys un-rotated; 0 for entries that came before the
               observer looked
    Cost       S·E·(Hq·D + H·D + H·Dv) time, 1024 tokens at once; 4 bytes per entry and kv head
    Needs      queries, keys and values of the piece; a rotary embedding that does not change with length, or
               none
    Phase      every piece; a token's number depends on no later one, and not on where the text is cut
    """

    head: str

    @property
    def stats(self) -> frozenset[str]:
        return frozenset()

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    @property
    def column(self) -> str:
        return f"retaining_{self.head}"

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 0

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        return {}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        stretch, device = piece.stretch, entries.live.device
        starts = torch.tensor(stretch.starts, device=device)[:, None, None]
        leads = torch.tensor(stretch.leads, device=device)[:, None, None]
        is_new = entries.live & (entries.ordinals >= starts)
        places = torch.where(is_new, entries.ordinals - starts + leads, 0).long()
        before = entries.column(self.column).masked_fill(~entries.live, 0.0)
        # Padding columns may hold anything: they are computed and never picked.
        return {}, {self.column: torch.where(is_new, self._read(env, piece).gather(2, places), before)}

    def _read(self, env: Env, piece: Piece) -> Tensor:
        """float32 [B, H, S] for every column of the piece."""
        head, ordinals = env.fixed[self.head], piece.stretch.ordinals(piece.q.device)
        weights = head["fc1"][env.layer], head["fc2"][env.layer]
        found = []
        for begin in range(0, piece.q.shape[2], BLOCK):
            span = slice(begin, begin + BLOCK)
            q, k, v = (x[:, :, span] for x in (piece.q, piece.k, piece.v))
            x = retain.features(q, k, v, ordinals[:, span], env.rope)
            found.append(retain.predict(x, *weights, retain.activation(head)))
        return torch.cat(found, -1)
