"""Running means and scatter matrices, and the softmax logit that a Gaussian of queries pays on average."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_BYTES = 64 * 2**20
"""Most transient bytes of the blockwise product."""

Moments = tuple[Tensor, Tensor, Tensor]
"""count int [B], mean [B, N, D] and scatter Σ (x − mean)(x − mean)ᵀ [B, N, D, D], both float32."""


def merge(moments: Moments, x: Tensor, real: Tensor) -> Moments:
    """The moments of what was seen before and of the real columns of x together (Chan's update).

    Shapes   x float32 [B, N, S, D], real bool [B, S]
    """
    count, mean, scatter = moments
    mask = real[:, None, :, None]
    n_new = real.sum(1, dtype=count.dtype)
    own = torch.where(mask, x, 0.0).sum(2) / _wide(n_new.clamp(min=1), 3)
    centred = torch.where(mask, x - own[:, :, None], 0.0)
    total = count + n_new
    delta, part = own - mean, _wide(n_new / total.clamp(min=1), 3)
    between = delta[..., :, None] * delta[..., None, :] * (part * _wide(count, 3))[..., None]
    return total, mean + delta * part, scatter + centred.transpose(-1, -2) @ centred + between


def gaussian_logits(keys: Tensor, mean: Tensor, covariance: Tensor | None, scale: float) -> Tensor:
    """log E exp(scale·q·k) for q ~ N(mean, covariance) and every key.

    Shapes   keys float32 [B, H, T, D], mean [B, Hq, D], covariance [B, Hq, D, D] or None → [B, Hq, T]
    Formula  scale·k·mean + ½·scale²·kᵀ·covariance·k
    Cost     Hq·T·D² time with a covariance, in blocks of at most BLOCK_BYTES
    """
    n_rows, n_heads, n_entries, dim = keys.shape
    centres: Tensor = mean.reshape(n_rows, n_heads, -1, dim)
    logits = scale * (centres @ keys.transpose(-1, -2))
    if covariance is None:
        return logits.flatten(1, 2)
    spreads = covariance.reshape(n_rows, n_heads, -1, dim, dim)
    step = max(1, BLOCK_BYTES // max(1, 8 * n_rows * mean.shape[1] * dim))
    for begin in range(0, n_entries, step):
        block = keys[:, :, None, begin : begin + step]
        logits[..., begin : begin + step] += 0.5 * scale**2 * ((block @ spreads) * block).sum(-1)
    return logits.flatten(1, 2)


def _wide(count: Tensor, n_axes: int) -> Tensor:
    return count.float().view(-1, *(1,) * (n_axes - 1))
