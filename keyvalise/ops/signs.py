"""Vectors as signed sums: every bit adds or takes away its own row of a matrix.

Formula   x̂ = Σ_k s_k·e_k, s_k = ±1; the signs are searched together, as a row that comes early can be mended
          by later ones
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops.fast import search

BEAM = 8
"""Partial sums that a search follows."""

AT_ONCE = 2**20
"""Numbers of partial sums that are held at a time."""


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
