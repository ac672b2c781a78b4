"""Moving averages and maxima along the entries."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def average(values: Tensor, live: Tensor, size: int) -> Tensor:
    """Moving average over `size` neighbours; zeros beyond the ends count, so edges are scaled down.

    −inf stays where it is and counts as zero for its neighbours; dead slots are zero in the result.

    Shapes   values [B, N, T], live bool [B, N, T], size odd → [B, N, T]
    """
    is_out = torch.isneginf(values)
    clean = torch.where(live & ~is_out, values, 0.0)
    pooled = functional.avg_pool1d(clean, size, stride=1, padding=size // 2)
    return torch.where(live, pooled.masked_fill(is_out, -math.inf), 0.0)


def largest(values: Tensor, live: Tensor, size: int) -> Tensor:
    """Largest of `size` neighbours; −inf stays where it is, dead slots are zero in the result.

    Shapes   values [B, N, T], live bool [B, N, T], size odd → [B, N, T]
    """
    clean = torch.where(live, values, -math.inf)
    pooled = functional.max_pool1d(clean, size, stride=1, padding=size // 2)
    return torch.where(live, torch.where(torch.isneginf(clean), clean, pooled), 0.0)
