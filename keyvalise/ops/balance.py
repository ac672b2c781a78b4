"""A self-balancing walk: signs under which two halves of some entries answer every query nearly alike.

Axes   B rows, H kv heads, n candidates in their order, padded; blocks of candidates walk by themselves
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BLOCK_BYTES = 64 * 2**20
"""Most transient bytes of kernels, where one block of every head is the least that walks at once."""

STEEPEST = 60.0
"""Exponents are cut here, so that no sum overflows."""


@dataclass(frozen=True, slots=True)
class Walk:
    """How far a step looks: gamma its pull, exp(temp·scale·⟨k, k'⟩ − beta) its kernel on keys."""

    gamma: float
    temp: float
    beta: float
    block: int
    scale: float

    def signs(self, keys: Tensor, features: Tensor, is_real: Tensor, draws: Tensor) -> Tensor:
        """±1 for every candidate, 0 for padding.

        Shapes   keys [B, H, n, D], features [B, H, n, F] float32, is_real bool, draws [B, H, n]
                 → float32 [B, H, n]
        Formula  η_j = 1 with probability ½ − γ·Σ_{i<j} M_ij·η_i, else −1, i and j in one block;
                 M_ij = exp(min(temp·scale·⟨k_i − k̄, k_j − k̄⟩ − β, 60))·⟨f_i, f_j⟩, k̄ the block's mean key
        Cost     n·block·(D + F) time in `block` sequential steps; blocks at once of at most BLOCK_BYTES
        """
        n_rows, n_heads, n, _ = keys.shape
        size = max(1, min(self.block, n))
        width = -(-n // size) * size - n
        mask = functional.pad(is_real, (0, width)).unflatten(2, (-1, size))
        keys, features = (
            functional.pad(x, (0, 0, 0, width)).unflatten(2, (-1, size)) for x in (keys, features)
        )
        draws = functional.pad(draws, (0, width)).unflatten(2, (-1, size))
        features = torch.where(mask[..., None], features, 0.0)
        keys = self._centred(keys, mask)
        step = max(1, BLOCK_BYTES // (8 * n_rows * n_heads * size * size))
        found = [
            self._walked(keys[:, :, span], features[:, :, span], draws[:, :, span])
            for span in (slice(begin, begin + step) for begin in range(0, keys.shape[2], step))
        ]
        signs: Tensor = torch.cat(found, 2) * mask if found else mask.float()
        return signs.flatten(2)[..., :n]

    def _centred(self, keys: Tensor, mask: Tensor) -> Tensor:
        """keys [B, H, blocks, size, D] without their block's mean."""
        keys = torch.where(mask[..., None], keys, 0.0)
        mean = keys.sum(3, keepdim=True) / mask.sum(-1).clamp(min=1)[..., None, None]
        return torch.where(mask[..., None], keys - mean, 0.0)

    def _walked(self, keys: Tensor, features: Tensor, draws: Tensor) -> Tensor:
        logits = (keys @ keys.transpose(-1, -2)).mul_(self.temp * self.scale).sub_(self.beta)
        kernel = logits.clamp_(max=STEEPEST).exp_().mul_(features @ features.transpose(-1, -2))
        signs = torch.zeros(draws.shape, device=draws.device)
        for j in range(draws.shape[-1]):
            push = (kernel[..., j, :j] * signs[..., :j]).sum(-1)
            signs[..., j] = torch.where(draws[..., j] < 0.5 - self.gamma * push, 1.0, -1.0)
        return signs


def halved(signs: Tensor) -> Tensor:
    """What becomes of every candidate: 0 it goes, 1 it stays, 2 it stays and stands for another too.

    Shapes   signs [B, H, n], 0 for padding → float32 [B, H, n]; of N candidates exactly ⌊N/2⌋ stay
    Formula  in their order, up to the place where one sign has come ⌈N/2⌉ times: that sign goes, the other
             counts twice; what lies behind stays as it is
    """
    half = ((signs != 0).sum(-1, keepdim=True) + 1) // 2
    plus, minus = ((signs == sign).cumsum(-1) for sign in (1, -1))
    is_over = (plus >= half) | (minus >= half)
    is_before = is_over.cumsum(-1) <= 1
    loser = torch.where(((plus >= half) & is_before).any(-1, keepdim=True), 1.0, -1.0)
    return torch.where(is_before, torch.where(signs == loser, 0.0, 2.0), 1.0)
