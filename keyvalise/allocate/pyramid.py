"""Counts that fall from the lower to the upper layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import rounding
from keyvalise.types.argument import arg
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class PyramidAllocate:
    """An arithmetic progression over the layers with the budget's mean, the same for every head of a layer.

    Shapes     protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64 [B, H]
    Formula    per head, b = budget // H, W protected, b' = b − W, N tokens:  m_min = b'/beta, m_max = 2b' −
               m_min, clipped to m_max ≤ max(N − W, b') with m_min = 2b' − m_max;  layer l keeps
               W + m_max − l·(m_max − m_min)/(L − 1), whole by largest remainder: the L layers that the stage
               names sum to L·b exactly
    Units      budget: tokens of all kv heads of one layer at a uniform split, protected ones included
    Cost       L time; computed anew from the numbers at every decision, no state
    Scope      layer: counts depend on N and the budget only, no layer waits for another
    Reduces to uniform for beta = 1, for one layer, and where N − W ≤ b'
    Differs    the step is real and the counts are rounded together (the reference rounds the step down and
               exceeds its budget); the clip is the only guard for short prompts (the reference falls back to
               uniform below 2b'). N is the latest prompt of the row, before its end the longest head; what a
               layer cannot fill because it holds fewer entries is not given to other layers.
    Paper      Cai et al. 2024, arXiv 2406.02069            Confidence  official code
    """

    beta: float = arg(20.0, low=1.0, doc="mean count over the smallest count")

    name: ClassVar[str] = "pyramid"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset({"layers:alike"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = True

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, held = lengths.shape[1], protect.sum(-1)
        longest = lengths.amax(-1).long()
        if env.prompt:
            prompt = torch.tensor(env.prompt, device=lengths.device)
            longest = torch.where(prompt > 0, prompt, longest)
        per_head = budget // n_heads
        window = torch.minimum(held.amax(-1), per_head)
        layers, place = env.among
        table = self.table(len(layers), per_head - window, longest - window)
        own = n_heads * (table[:, place] + window) + budget % n_heads
        return rounding.share_out(torch.ones_like(lengths), own, lengths, held)

    def table(self, n_layers: int, mean: Tensor, available: Tensor) -> Tensor:
        """Unprotected entries per head and layer: mean, available int64 [B] → int64 [B, L], sum L·mean."""
        middle = mean.double()
        most = torch.minimum(2 * middle - middle / self.beta, torch.maximum(available.double(), middle))
        steps = torch.arange(n_layers, dtype=torch.float64, device=mean.device)
        slope = 1 - 2 * steps / (n_layers - 1) if n_layers > 1 else torch.zeros_like(steps)
        targets = middle[:, None] + (most - middle)[:, None] * slope
        return rounding.largest_remainder(targets, n_layers * mean, (2 * mean)[:, None].expand_as(targets))
