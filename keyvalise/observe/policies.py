"""What every policy of a head would have lost of the prompt's attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import near, policies
from keyvalise.ops.heads import How
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Amount, count


@dataclass(frozen=True, slots=True)
class PoliciesObserver:
    """Attention per entry, the tier it belongs to, and per head what the nested policies lose of it.

    Shapes     columns "…_received", "…_close", "…_rank" float32 [B, H, T]: attention of all queries so far,
               of those for which the entry was local, and 4 − its tier, which is that of its class or else
               what it was when the prompt ended; stats "…_lost" float32 [B, H, 4], "…_held" int32 [B, H, 5]:
               entries per tier when the prompt ended, "…_policy" int32 [B, H], −1 while it lasts
    Formula    a_st = mean or max over the group of p_gst;  received_t = Σ_s a_st, close_t = Σ over s − t <
               local;  tiers and shares lost: `ops.policies`. The policy is the last one of whose tiers
               nothing was gone when decoding began
    Units      frequent, local: tokens, or a share of the prompt's
    Cost       Hq·S·T·D time, half of it for a first piece; 8 MiB of logits, 64 on an accelerator; 12 bytes
               per entry and kv head, 40 per kv head
    Needs      queries, keys, lse and token ids of the piece; classes of tokens
    Phase      every piece; attention goes on being counted in decode, the shares lost stay the prompt's
    """

    classes: str
    frequent: Amount
    local: Amount
    reduce: How = "mean"

    @property
    def stats(self) -> frozenset[str]:
        return frozenset(self.called("lost", "held", "policy"))

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self.called("received", "close", "rank"))

    def called(self, *names: str) -> tuple[str, ...]:
        """What columns and statistics of an observer with these arguments are called."""
        own = f"{self.classes}_{self.frequent}_{self.local}_{self.reduce}"
        return tuple(f"{own}_{name}" for name in names)

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 40 * geometry.n_kv_heads

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        lost, held, policy = self.called("lost", "held", "policy")
        shape, whole = (n_rows, env.geometry.n_kv_heads), {"dtype": torch.int32, "device": device}
        return {
            lost: torch.ones((*shape, policies.REST), device=device),
            held: torch.zeros((*shape, policies.REST + 1), **whole),
            policy: torch.full(shape, -1, **whole),
        }

    def sizes(self, env: Env, piece: Piece) -> Tensor:
        """Tokens that count as frequent and as local in every row: int64 [2, B]."""
        prompts = env.prompt or piece.stretch.ends
        both = [[count(amount, n) for n in prompts] for amount in (self.frequent, self.local)]
        return torch.tensor(both, device=piece.q.device)

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        columns, names = self.called("received", "close", "rank"), self.called("lost", "held", "policy")
        old = [entries.column(name).masked_fill(~entries.live, 0.0) for name in columns]
        ids, classes, sizes = piece.taps["ids"], env.fixed[self.classes]["classes"], self.sizes(env, piece)
        new = near.column_sums(env.geometry, piece, entries, sizes[1], self.reduce)
        tier = policies.arrived(entries, policies.REST - old[2], ids, piece.stretch, classes)
        marks = policies.Marks(old[0] + new[0], old[1] + new[1], tier)
        known = policies.Profile(*(stats[name] for name in names))
        prompts = env.prompt or piece.stretch.ends
        known, tier = policies.advanced(known, entries, marks, piece.stretch, prompts, sizes=sizes)
        columns_now = (marks.received, marks.close, policies.REST - tier)
        stats_now = (known.lost, known.held, known.policy)
        return dict(zip(names, stats_now, strict=True)), dict(zip(columns, columns_now, strict=True))
