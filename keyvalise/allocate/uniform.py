"""The same count for every head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from keyvalise.ops import rounding
from keyvalise.types.data import Env, Scores


@dataclass(frozen=True, slots=True)
class UniformAllocate:
    """Every kv head of the layer keeps the same number of entries.

    Shapes     protect bool [B, H, T], lengths int [B, H], budget int64 [B] → int64 [B, H]
    Formula    clip(λ, protected_h, length_h) with the λ that makes the sum min(budget, Σ lengths); the
               remainder goes to the lower heads, one each
    Units      budget: tokens of all kv heads together, protected ones included
    Cost       H² time
    Scope      layer; looks at no score
    """

    name: ClassVar[str] = "uniform"
    room: ClassVar[str] = "allocate"
    needs: ClassVar[frozenset[str]] = frozenset()
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[Literal["exact", "demanded", "layout"]] = "exact"
    is_uniform: ClassVar[bool] = True

    def allocate(self, env: Env, scores: Scores, protect: Tensor, lengths: Tensor, budget: Tensor) -> Tensor:
        n_heads, held = lengths.shape[1], protect.sum(-1)
        # Rounded up for as many heads as the remainder has tokens, down for the others.
        even = (budget[:, None] + torch.arange(n_heads - 1, -1, -1, device=lengths.device)) // n_heads
        # The usual case, at every token of a decode: nobody is clipped.
        if bool(((held <= even) & (even <= lengths)).all()):
            return even
        return rounding.share_out(torch.ones_like(lengths), budget, lengths, held)
