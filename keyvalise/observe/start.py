"""Where decoding began."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry


@dataclass(frozen=True, slots=True)
class StartObserver:
    """How many entries every head held when the latest decoding began.

    Shapes     stat "start" int32 [B, H]; −1 while a row's prompt lasts
    Formula    the entries held before the first piece whose tokens lie behind the prompt's end
    Cost       4 bytes per kv head, row and layer; no time to speak of
    Phase      every piece, prompt and decode; a piece that continues decoding changes nothing
    """

    @property
    def stats(self) -> frozenset[str]:
        return frozenset({"start"})

    @property
    def columns(self) -> frozenset[str]:
        return frozenset()

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 4 * geometry.n_kv_heads

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_kv_heads)
        return {"start": torch.full(shape, -1, dtype=torch.int32, device=device)}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        stretch, device = piece.stretch, entries.live.device
        prompts = env.prompt or (0,) * len(stretch.starts)
        decodes = [start >= end for start, end in zip(stretch.starts, prompts, strict=True)]
        is_past = torch.tensor(decodes, device=device)[:, None]
        is_empty = torch.tensor([n == 0 for n in stretch.counts], device=device)[:, None]
        held = entries.lengths - torch.tensor(stretch.counts, dtype=torch.int32, device=device)[:, None]
        old = stats["start"]
        new = torch.where(is_past, torch.where(old < 0, held, old), -1)
        return {"start": torch.where(is_empty, old, new)}, {}
