"""What future queries will attend to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.observe.moments import MomentsObserver
from keyvalise.ops import heads, mass, moments, rope
from keyvalise.types.argument import arg
from keyvalise.types.data import Entries, Env, Piece, Scores
from keyvalise.types.part import Observer


@dataclass(frozen=True, slots=True)
class ExpectedScore:
    """Attention that a Gaussian of future queries would pay, times the length of the value.

    Shapes     → [B, Hq, T] float32; "free", or "mass" with values off and eps 0
    Formula    (μ, Σ) moments of un-rotated queries from ordinal `skip` on; R mean rotation of the next
               `future` positions; x_t = scale·k_t·Rμ + ½·scale²·k_tᵀRΣRᵀk_t + logw_t;  s_t = (softmax_t(x) +
               eps)·‖v_t‖₂
    Cost       Hq·T·D² time, 64 MiB transient; MomentsObserver holds 4·Hq·D·(1 + D) bytes per row and layer
    Needs      queries, keys, values; a rotary embedding that does not change with length, or none
    Phase      prompt and decode                            Scope  layer; the order of the queries does not
               matter
    Reduces to the softmax of one rotated mean query for covariance off, values off, future = 1
    Differs    sinks are protected by drop(sinks=4), not by a score; a softcap of the model is ignored, for it
               has no closed form; log-weights of merged entries count
    Paper      Devoto et al. 2025, arXiv 2510.00636         Confidence  official code
    """

    future: int = arg(512, low=1, doc="positions ahead that are averaged over")
    skip: int = arg(4, low=0, doc="first queries that are left out of the moments")
    covariance: bool = arg(True, doc="use the second-order term")
    values: bool = arg(True, doc="multiply by the length of the value")
    eps: float = arg(0.0, low=0.0, doc="added to every probability before the length counts")

    name: ClassVar[str] = "expected"
    room: ClassVar[str] = "score"
    needs: ClassVar[frozenset[str]] = frozenset({"queries:piece", "keys", "values", "rope:static"})
    gives: ClassVar[frozenset[str]] = frozenset({"scores:positive"})
    takes: ClassVar[frozenset[str]] = frozenset()

    @property
    def observers(self) -> tuple[Observer, ...]:
        return (MomentsObserver(self.skip),)

    def score(self, env: Env, entries: Entries, stats: Mapping[str, Tensor], piece: Piece) -> Scores:
        mean, covariance = self._future(env, stats, piece)
        logits = moments.gaussian_logits(mass.clean_keys(entries), mean, covariance, env.geometry.scale)
        live = heads.spread(entries.live, mean.shape[1])
        if entries.logw is not None:
            logits = logits + heads.spread(entries.logw, mean.shape[1])
        shares = logits.masked_fill(~live, -math.inf).softmax(-1).masked_fill(~live, 0.0)
        if not self.values and self.eps == 0:
            return Scores(shares, "mass")
        weights = live.float()
        if self.values:
            lengths = entries.values().float().masked_fill(~entries.live[..., None], 0.0).norm(dim=-1)
            weights = heads.spread(lengths, mean.shape[1])
        return Scores((shares + self.eps) * weights)

    def _future(self, env: Env, stats: Mapping[str, Tensor], piece: Piece) -> tuple[Tensor, Tensor | None]:
        """Mean [B, Hq, D] and covariance [B, Hq, D, D] of the queries of the next `future` positions."""
        count, mean, scatter = (stats[name] for name in MomentsObserver(self.skip).names)
        covariance = scatter / count.clamp(min=1)[:, None, None, None] if self.covariance else None
        if env.rope is None:
            return mean, covariance
        first = torch.tensor(piece.stretch.ends, device=mean.device)
        tables = rope.mean_rotation(env.rope, first, self.future)
        cos, sin = (table[:, None] * env.rope.scaling for table in tables)
        layout = (env.rope.is_interleaved, env.rope.width)
        if covariance is not None:
            turned = rope.rotate(covariance, cos[:, :, None], sin[:, :, None], *layout).transpose(-1, -2)
            covariance = rope.rotate(turned, cos[:, :, None], sin[:, :, None], *layout)
        return rope.rotate(mean, cos, sin, *layout), covariance
