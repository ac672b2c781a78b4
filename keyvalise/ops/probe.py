"""Probes: a mean of queries that leans towards the unusual ones, and the running moments that tell them."""

from __future__ import annotations

import torch
from torch import Tensor

Spread = tuple[Tensor, Tensor, Tensor]
"""count int [B], mean [B, N, D] and sum of squared deviations [B, N, D], both float32."""

SOFT = 100.0
"""The share of the mean variance that is added to every variance is one in so many."""


def merge(spread: Spread, x: Tensor, real: Tensor) -> Spread:
    """The running moments with the real columns of x taken in (Chan's update, feature by feature).

    Shapes   x float32 [B, N, S, D], real bool [B, S]
    """
    count, mean, squares = spread
    mask = real[:, None, :, None]
    n_new = real.sum(1, dtype=count.dtype)
    own = torch.where(mask, x, 0.0).sum(2) / _wide(n_new.clamp(min=1))
    deviations = torch.where(mask, x - own[:, :, None], 0.0).square().sum(2)
    total = count + n_new
    delta, part = own - mean, _wide(n_new) / _wide(total.clamp(min=1))
    return total, mean + delta * part, squares + deviations + delta.square() * part * _wide(count)


def activation_bias(q: Tensor, spread: Spread, real: Tensor) -> Tensor:
    """How far every query lies from what is usual: float32 [B, S], 0 where it is not real.

    Shapes   q float32 [B, N, S, D], real bool [B, S]
    Formula  mean over all N·D features of (q − mean)²/(variance + mean variance/100); equal for all where
             nothing varies
    """
    count, mean, squares = spread
    variance = squares / _wide(count.clamp(min=1))
    scale = variance + variance.mean((1, 2), keepdim=True) / SOFT
    off = torch.where(real[:, None, :, None], q - mean[:, :, None], 0.0).square()
    scale = scale[:, :, None].expand_as(off)
    bias = torch.where(scale > 0, off / torch.where(scale > 0, scale, 1.0), 0.0).mean((1, 3))
    is_even = (bias.sum(1, keepdim=True) == 0) & real
    return torch.where(is_even, 1.0, bias)


def weighted_mean(q: Tensor, bias: Tensor, real: Tensor) -> Tensor:
    """Σ_i w_i·q_i with w_i the share of query i in all biases: float32 [B, N, D]; zeros where no query is."""
    shares = bias / bias.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.where(real[:, None, :, None], q, 0.0) * shares[:, None, :, None]).sum(2)


def _wide(count: Tensor) -> Tensor:
    return count.float()[:, None, None]
