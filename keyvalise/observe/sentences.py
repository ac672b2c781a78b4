"""Which sentence every token belongs to, and what the queries of the present one sum up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import stretches
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry

PUNCTUATION = 2
"""The class of tokens that end a sentence."""


@dataclass(frozen=True, slots=True)
class SentencesObserver:
    """Sentences end with tokens of the class punctuation.

    Shapes     column "sentence" float32 [B, H, T]: sentences before the token's own; stats "sentence_n",
               "sentence_length" int32 [B]: sentences ended, tokens of the present one; "sentence_q" float32
               [B, Hq, D]: sum of its queries
    Cost       8 + 4·Hq·D bytes per row and layer, 4 per entry and kv head; S·Hq·D time
    Needs      queries and token ids of the piece; classes of tokens
    Phase      every piece, prompt and decode
    """

    classes: str

    NAMES = ("sentence_n", "sentence_length", "sentence_q")

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.NAMES)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({"sentence"})

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 8 + 4 * geometry.n_query_heads * geometry.key_dim

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        shape = (n_rows, env.geometry.n_query_heads, env.geometry.key_dim)
        counts = [torch.zeros(n_rows, dtype=torch.int32, device=device) for _ in range(2)]
        return dict(zip(self.NAMES, (*counts, torch.zeros(shape, device=device)), strict=True))

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        ids, classes = piece.taps["ids"], env.fixed[self.classes]["classes"]
        ordinals = piece.stretch.ordinals(ids.device)
        real = ordinals >= 0
        kind = torch.where(ids < len(classes), classes[ids.clamp(max=len(classes) - 1)].long(), 0)
        ended, length, total = (stats[name] for name in self.NAMES)
        number, after = stretches.numbered(ended, (kind == PUNCTUATION) & real)
        mine = (number == after[:, None]) & real
        goes_on = after == ended
        queries = torch.where(mine[:, None, :, None], piece.q.float(), 0.0).sum(2)
        now = (
            after,
            mine.sum(1, dtype=torch.int32) + torch.where(goes_on, length, 0),
            queries + torch.where(goes_on[:, None, None], total, 0.0),
        )
        column = stretches.column(entries, "sentence", number, ordinals)
        return dict(zip(self.NAMES, now, strict=True)), {"sentence": column}
