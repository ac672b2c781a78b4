"""Likeness to a query that speaks for the window's unusual ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.observe.spread import SpreadObserver
from keyvalise.observe.window import WindowObserver
from keyvalise.ops import mass, probe, rope
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class ProbeScore:
    """Cosine between an entry's key and the mean of the last n queries, weighed by how unusual each is.

    Shapes     → [B, H, T] float32 between −1 and 1, "free"
    Formula    bias_i = mean over all Hq·D features of (q_i − μ)²/(var + mean var/100), μ and var over all
               queries of the row so far;  probe = Σ_i q_i·bias_i / Σ bias, mean over the group, turned by
               `distance`;  s_t = cos(k_t, probe), queries and keys un-rotated
    Units      n: queries;  distance: positions that all queries are taken to stand behind all keys
    Cost       H·T·D + n·Hq·D time; the window's n·Hq·D numbers and 4 + 8·Hq·D bytes per row and layer
    Needs      queries, keys; a rotary embedding that does not change with length, or none
    Phase      prompt and decode; the statistics begin with the row and end with it
    Scope      layer, per kv head; `layer` behind it gives one set
    Reduces to the cosine with the window's mean query where all are equally unusual, or n = 1
    Differs    statistics are kept per row and layer, and weights are those of the formula from the first
               window on; the official code shares its statistics between layers and texts, and its weights
               are all 1 until they have been updated a thousand times. One cosine per kv head, with the mean
               of its group, instead of one over all query heads; keys stand for themselves, not for blocks
    Paper      Xiao et al. 2025, arXiv 2502.13542           Confidence  official code
    """

    n: int = arg(256, low=1, doc="queries that the probe is made of", is_window=True)
    distance: int = arg(512, low=0, doc="positions between the probe and every key")

    name: ClassVar[str] = "probe"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "rope:static"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (WindowObserver(self.n), SpreadObserver())

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        keys, query = mass.clean_keys(entries), self._probe(env, stats)
        if env.rope is not None:
            keys = rope.unrotate(keys, entries.ordinals.clamp(min=0), env.rope)
            query = rope.shift(query, torch.tensor(self.distance, device=query.device), env.rope)
        likeness = functional.cosine_similarity(keys, query[:, :, None], dim=-1)
        return Scores(likeness.masked_fill(~entries.live, 0.0))

    def _probe(self, env: Env, stats: Mapping[str, Tensor]) -> Tensor:
        """float32 [B, H, D], un-rotated: the mean over the query heads of every group."""
        window = WindowObserver(self.n)
        q, ordinals = stats[window.q_name].float(), stats[window.ordinals_name]
        if env.rope is not None:
            q = rope.unrotate(q, ordinals.clamp(min=0)[:, None], env.rope)
        real = ordinals >= 0
        spread = (stats["spread_n"], stats["spread_mean"], stats["spread_m2"])
        mean: Tensor = probe.weighted_mean(q, probe.activation_bias(q, spread, real), real)
        grouped: Tensor = mean.unflatten(1, (env.geometry.n_kv_heads, -1)).mean(2)
        return grouped
