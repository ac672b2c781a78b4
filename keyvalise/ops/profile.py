"""What static allocators ask of a profile and a row: scores per kv head, and how many tokens there are."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from keyvalise.types.data import Env

Reduce = Literal["mean", "max"]


def per_kv_head(scores: Tensor, n_heads: int, how: Reduce = "mean") -> Tensor:
    """Scores of query or kv heads as float64 scores of kv heads, never below zero.

    Shapes   [L, Hq | H] → [L, H]; query head h belongs to kv head h // G
    """
    grouped = scores.double().clamp(min=0).unflatten(-1, (n_heads, -1))
    reduced: Tensor = grouped.mean(-1) if how == "mean" else grouped.amax(-1)
    return reduced


def seen(env: Env, lengths: Tensor) -> Tensor:
    """Tokens that every row has seen, int64 [B]; where nobody says, what its longest head holds."""
    return torch.tensor(env.seen, device=lengths.device) if env.seen else lengths.amax(-1).long()


def reach(env: Env, lengths: Tensor) -> Tensor:
    """Tokens that every row has seen, or all of a prompt that is known to be longer: int64 [B].

    Unlike the lengths of one layer it is the same in all layers, so that their counts fit together.
    """
    known = seen(env, lengths)
    return torch.maximum(known, torch.tensor(env.prompt, device=known.device)) if env.prompt else known


def unless_it_fits(counts: Tensor, env: Env, lengths: Tensor, budget: Tensor) -> Tensor:
    """The counts [B, H], or all entries in rows whose budget [B] holds every token seen so far.

    A prompt that comes in chunks may be short of a budget that is meant for the whole of it.
    """
    fits = budget >= lengths.shape[1] * seen(env, lengths)
    return torch.where(fits[:, None], lengths.long(), counts)
