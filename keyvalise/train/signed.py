"""Matrices of signed sums: signs are searched for a matrix, a matrix is found for signs, in turns.

Axes     M rows of D numbers at unit size, K rows of a matrix; a row counts as much as it was long
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import signs


def start(x: Tensor, n: int) -> Tensor:
    """n rows [n, D], each along what varies most in what the ones before leave."""
    rest, rows = x, []
    for _ in range(n):
        along = torch.linalg.eigh(rest.T @ rest).eigenvectors[:, -1]
        share = rest @ along
        rows.append(share.abs().mean() * along)
        rest = rest - torch.where(share >= 0, 1.0, -1.0)[:, None] * rows[-1]
    return torch.stack(rows)


def improve(matrix: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, float]:
    """The matrix of the least weighted squared error for the signs that a search finds, longest rows first,
    and the weighted error of the matrix before, as a share.

    Shapes   matrix [K, D], x [M, D], weight [M]
    """
    bits = signs.encode(x, matrix)
    found = 2 * bits.to(x.dtype) - 1
    error = (weight * (x - found @ matrix).square().sum(-1)).sum()
    heavy = (found * weight[:, None]).T.double()
    equations = heavy @ found.double()
    # Signs that always agree leave a direction open.
    equations += 1e-4 * equations.diagonal().mean() * torch.eye(len(matrix), device=x.device)
    better = torch.linalg.solve(equations, heavy @ x.double()).to(x.dtype)
    order = better.norm(dim=-1).argsort(descending=True)
    return better[order], float(error / (weight * x.square().sum(-1)).sum())
