"""Counts by one water level over all layers, found anew for every text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from keyvalise.ops import rounding, water
from keyvalise.types.part import Claim


@dataclass(frozen=True, slots=True)
class WaterAllocate:
    """All layers retain an equal share of their scores: the worst-off as much as any split allows.

    Shapes     per layer scores [B, H | 1, T], protect bool [B, H, T], lengths int [B, H], budget int64 [B] →
               int64 [B, H] each; T may differ
    Formula    m_l = the heads' mean score, at least 0;  `ops.water.counts` splits Σ_l budget_l / H entries,
               protected ones inside; every head of a layer gets its layer's count
    Units      budget: tokens of all kv heads of one layer at a uniform split, protected ones included
    Cost       L·T·log(L·T) time per row, no pass over keys or values
    Needs      scores of one sign that say how much of a whole an entry holds, such as attention
    Scope      model: every layer waits for the last, so nothing is dropped before a call has ended
    Reduces to uniform for equal scores in all layers; prefix is the same split, measured once for all texts
    Differs    exact, where the paper bisects the level until it is within five tokens; decoding decides anew
               where the paper keeps the prompt's counts
    Paper      Wang et al. 2024, arXiv 2412.03409           Confidence  official code
    """

    name: ClassVar[str] = "water"
    room: ClassVar[str] = "allocate"
    scope: ClassVar[Literal["model"]] = "model"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = True

    def share(self, claims: Sequence[Claim]) -> list[Tensor]:
        width = max(protect.shape[-1] for _, _, protect, _, _ in claims)
        n_heads = claims[0][3].shape[1]
        found = []
        for row in range(len(claims[0][4])):
            mass, guard, live = (torch.stack(one) for one in zip(*_seen(claims, row, width), strict=True))
            total = sum(int(budget[row]) for *_, budget in claims)
            split = water.counts(mass, total // n_heads, guard, live)
            found.append(split * n_heads)
        own = torch.stack(found, 1)
        return [
            rounding.share_out(
                torch.ones_like(lengths), own[layer].to(lengths.device), lengths, protect.sum(-1)
            )
            for layer, (_, _, protect, lengths, _) in enumerate(claims)
        ]


def _seen(claims: Sequence[Claim], row: int, width: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Per layer, of one row: mean scores, what some head protects, what some head holds, all [width]."""
    layers = []
    for _, scores, protect, lengths, _ in claims:
        held = torch.arange(protect.shape[-1], device=protect.device) < lengths[row, :, None]
        values = torch.where(held, scores.values[row].clamp(min=0), 0.0).mean(0)
        pad = (0, width - values.shape[-1])
        guarded, live = (functional.pad(one, pad) for one in ((protect[row] & held).any(0), held.any(0)))
        layers.append((functional.pad(values, pad), guarded, live))
    return layers
