"""Accumulated attention of a noisy softmax, per entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from keyvalise.ops import noisy
from keyvalise.types.data import Entries, Env, Piece
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import plain

Noise = Literal["sample", "expected", "none"]

DRAWS: Mapping[str, tuple[str, ...]] = {
    "sample": ("gumbel",),
    "expected": ("gumbel", "gumbel1", "gumbel2", "gumbel3"),
    "none": (),
}
"""The draws that a query's attention is averaged over; the first of them is the sample."""


@dataclass(frozen=True, slots=True)
class GumbelObserver:
    """A column of the attention that entries would have received from a noisy, flattened softmax.

    Shapes     column "gumbel_{noise}_{tau_init}_{tau_delta}" float32 [B, H, T]; no statistics
    Formula    Σ_s mean_g softmax_t((scale·q_gs·k_t + noise)/tau_s + logw_t) over all queries s ≥ t so far;
               tau_s = tau_init + tau_delta·n_s, n_s tokens decoded since the prompt, s among them
    Units      ordinals: n_s is 0 for every query of a prompt, 1 for the first token after it
    Cost       Hq·S·T·D time and one hash per draw and logit; 8 MiB of logits, 64 on an accelerator, and six
               times that for hashing; 4 bytes per entry and kv head
    Needs      queries and keys of the piece
    Phase      every piece, prompt and decode
    Reduces to MassObserver for no noise and a temperature of 1, in models whose softmax has no sink of its
               own
    Differs    a draw is a hash of (seed, layer, query head, ordinal of the query, ordinal of the entry), so
               that cutting, padding and batching change nothing
    """

    noise: Noise = "sample"
    tau_init: float = 1.0
    tau_delta: float = 0.01

    @property
    def stats(self) -> frozenset[str]:
        return frozenset()

    @property
    def columns(self) -> frozenset[str]:
        return frozenset({self.column})

    @property
    def column(self) -> str:
        return f"gumbel_{self.noise}_{plain(self.tau_init)}_{plain(self.tau_delta)}"

    def stat_bytes(self, geometry: Geometry) -> int:
        """Bytes of the statistics of one row in one layer."""
        return 0

    def init(self, env: Env, n_rows: int, device: Any) -> dict[str, Tensor]:
        return {}

    def update(
        self, env: Env, stats: Mapping[str, Tensor], piece: Piece, entries: Entries
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        before = entries.column(self.column).masked_fill(~entries.live, 0.0)
        sums = noisy.column_sums(env, piece, entries, self._taus(env, piece), DRAWS[self.noise])
        return {}, {self.column: before + sums}

    def _taus(self, env: Env, piece: Piece) -> Tensor:
        """The temperature of every query: float32 [B, S]."""
        ordinals = piece.stretch.ordinals(piece.q.device)
        # Without a known end of the prompt the piece itself is taken for one.
        prompt = torch.tensor(env.prompt or piece.stretch.ends, device=ordinals.device)[:, None]
        return self.tau_init + self.tau_delta * (ordinals - prompt + 1).clamp(min=0)
