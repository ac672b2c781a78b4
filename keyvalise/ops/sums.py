"""Values of one layer in signed sums, each head with its own matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import apart, halves, pack, signs

ROWS = 2**12
"""Values that are read at a time where many are summed."""


@dataclass(frozen=True, slots=True)
class Sums:
    """v̂ = middle + f·Σ ±e: matrices [H, K, D] of signed rows e, middles [H, D]."""

    matrices: Tensor
    middles: Tensor

    @property
    def width(self) -> int:
        """Bytes of a value without its factor."""
        return pack.width(self.matrices.shape[1], 1)

    def write(self, x: Tensor, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Values [N, D] as uint8 [N, width] and factors float16 [N]; heads int64 [N].

        Formula  f = ⟨x − μ, y⟩ / ⟨y, y⟩ of the signed sum y nearest to (x − μ) at unit size
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        x = x.to(dtype) - self.middles.to(dtype)[heads]
        size = x.square().mean(-1, keepdim=True).sqrt()
        even = torch.where(size > 0, x / size, 0)

        def written(head: int, rows: Tensor) -> tuple[Tensor, ...]:
            matrix = self.matrices[head].to(dtype)
            bits = signs.encode(even[rows], matrix)
            return bits, signs.decode(bits, matrix)

        bits, near = apart.by_head(written, heads, len(self.matrices))
        factor = (x * near).sum(-1) / near.square().sum(-1).clamp(min=torch.finfo(dtype).tiny)
        return pack.pack(bits, 1), factor.clamp(-halves.LARGEST, halves.LARGEST).half()

    def read(self, packed: Tensor, factor: Tensor, heads: Tensor) -> Tensor:
        """float32 [N, D]; heads int64 [N]."""

        def sums(head: int, rows: Tensor) -> tuple[Tensor, ...]:
            bits = pack.unpack(packed[rows], 1, self.matrices.shape[1])
            return (signs.decode(bits, self.matrices[head].float()),)

        (near,) = apart.by_head(sums, heads, len(self.matrices))
        return self.middles.float()[heads] + factor.float()[:, None] * near

    def weighed(self, weights: Tensor, packed: Tensor, factor: Tensor, head: int) -> Tensor:
        """Σ w·x̂ float32 [G, D] of weights [G, N]: signs are summed first, the matrix is read once."""
        total = torch.zeros(len(weights), self.matrices.shape[1], device=weights.device)
        scaled = weights * factor.float()
        for begin in range(0, len(packed), ROWS):
            rows = slice(begin, begin + ROWS)
            bits = pack.unpack(packed[rows], 1, self.matrices.shape[1])
            total += scaled[:, rows] @ signs.signed(bits, total.dtype)
        return weights.sum(1, keepdim=True) * self.middles[head].float() + total @ self.matrices[head].float()
