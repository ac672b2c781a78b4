"""Vectors as signed sums: every bit adds or takes away its own row of a matrix.

Formula   x̂ = μ + f·Σ_k s_k·e_k, s_k = ±1; the signs are searched together, as a row that comes early can be
          mended by later ones
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import affine, apart, pack
from keyvalise.ops.fast import search

BEAM = 8
"""Partial sums that a search follows."""

AT_ONCE = 2**20
"""Numbers of partial sums that are held at a time."""

ROWS = 2**12
"""Vectors that are read at a time where many are summed."""


def encode(x: Tensor, matrix: Tensor, beam: int = BEAM) -> Tensor:
    """The best signs that a search finds which follows the `beam` nearest partial sums from row to row.

    Shapes   x [M, D], matrix [K, D] → uint8 [M, K], 1 for plus
    Reduces to each row's better sign, one after the other, for beam = 1
    """
    if search.available(x):
        return search.signs(x, matrix, beam)
    rows = max(1, AT_ONCE // (beam * x.shape[-1]))
    found = [_search(part, matrix, beam) for part in x.split(rows)]
    return torch.cat(found) if found else torch.empty(0, len(matrix), dtype=torch.uint8, device=x.device)


def decode(bits: Tensor, matrix: Tensor) -> Tensor:
    """The signed sums: uint8 [M, K], matrix [K, D] → [M, D]."""
    return signed(bits, matrix.dtype) @ matrix


def signed(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """±1 of bits."""
    return 2 * bits.to(dtype) - 1


@dataclass(frozen=True, slots=True)
class Sums:
    """Values of one layer in code; matrices [H, K, D], middles [H, D]."""

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
            bits = encode(even[rows], matrix)
            return bits, decode(bits, matrix)

        bits, near = apart.by_head(written, heads, len(self.matrices))
        factor = (x * near).sum(-1) / near.square().sum(-1).clamp(min=torch.finfo(dtype).tiny)
        return pack.pack(bits, 1), factor.clamp(-affine.LARGEST, affine.LARGEST).half()

    def read(self, packed: Tensor, factor: Tensor, heads: Tensor) -> Tensor:
        """float32 [N, D]; heads int64 [N]."""

        def sums(head: int, rows: Tensor) -> tuple[Tensor, ...]:
            bits = pack.unpack(packed[rows], 1, self.matrices.shape[1])
            return (decode(bits, self.matrices[head].float()),)

        (near,) = apart.by_head(sums, heads, len(self.matrices))
        return self.middles.float()[heads] + factor.float()[:, None] * near

    def weighed(self, weights: Tensor, packed: Tensor, factor: Tensor, head: int) -> Tensor:
        """Σ w·x̂ float32 [G, D] of weights [G, N]: signs are summed first, the matrix is read once."""
        total = torch.zeros(len(weights), self.matrices.shape[1], device=weights.device)
        scaled = weights * factor.float()
        for begin in range(0, len(packed), ROWS):
            rows = slice(begin, begin + ROWS)
            bits = pack.unpack(packed[rows], 1, self.matrices.shape[1])
            total += scaled[:, rows] @ signed(bits, total.dtype)
        return weights.sum(1, keepdim=True) * self.middles[head].float() + total @ self.matrices[head].float()


def _search(x: Tensor, matrix: Tensor, beam: int) -> Tensor:
    rest, steps = x[:, None], []
    for row in matrix:
        # ‖r ∓ e‖² = ‖r‖² ∓ 2⟨r, e⟩ + ‖e‖²; the last is the same for all.
        size, along = rest.square().sum(-1), 2 * (rest @ row)
        n_paths = rest.shape[1]
        apart = torch.cat([size - along, size + along], 1)
        path = apart.topk(min(beam, 2 * n_paths), 1, largest=False).indices
        is_plus, path = path < n_paths, path % n_paths
        steps.append((is_plus, path))
        sign = torch.where(is_plus, 1.0, -1.0).to(x.dtype)[..., None]
        rest = rest.gather(1, path[..., None].expand(-1, -1, x.shape[-1])) - sign * row
    last = rest.square().sum(-1).argmin(1, keepdim=True)
    found = []
    for is_plus, path in reversed(steps):
        found.append(is_plus.gather(1, last))
        last = path.gather(1, last)
    return torch.cat(found[::-1], 1).to(torch.uint8)
