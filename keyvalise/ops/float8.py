"""Numbers in eight bits: four of exponent, three of fraction, and one scale in 16 bits for every vector."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 448.0
"""The largest number that four bits of exponent and three of fraction write."""

SMALLEST_SCALE = 2.0**-14
"""The smallest scale that float16 holds with all its digits."""


def encode(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every row over its scale.

    Shapes   x [N, D] → uint8 [N, D], scales float16 [N, 1]
    Formula  scale = max |x| / 448, rounded up to float16 and at least 2⁻¹⁴, so that the largest number of a
             row is 448 scales, and coding what was decoded finds the same scale and the same numbers
    """
    x = x.float()
    exact = (x.abs().amax(-1, keepdim=True) / LARGEST).clamp(SMALLEST_SCALE, torch.finfo(torch.float16).max)
    near = exact.half()
    above = (near.view(torch.int16) + 1).view(torch.float16)
    scale = torch.where(near.float() < exact, above, near)
    numbers = (x / scale.float()).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)
    return numbers.view(torch.uint8), scale


def decode(codes: Tensor, scales: Tensor) -> Tensor:
    """The rows again, float32."""
    return codes.view(torch.float8_e4m3fn).float() * scales.float()
