"""Tables of codewords that turn like keys, found by expectation and maximisation.

Axes       M rows of D = 2J numbers (real parts, then imaginary ones); codewords c_A + i·c_B of a table's n
           rows
Formula    E: p_m(A, B) = softmax over all (A, B) of −‖x_m − c_A − i·c_B‖/τ
           M: Σ p_m(A, B)·‖x_m − c_A − i·c_B‖² is least where (diag(r + s) + i·(W − Wᵀ))·c = X_r − i·X_s,
           W = Σ_m p_m, r and s its sums over rows and columns, X_r, X_s the sums of x weighed likewise: n
           equations that all pairs of channels share
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import commuting

HOT, COLD = 3e-3, 3e-5
"""Temperatures of the first and the last iteration, over the size of what is coded: a thousandth and less of
the length of a token's keys where eight heads share it.
"""


@dataclass(frozen=True)
class Soft:
    """What an expectation leaves: weights [n, n], sums of the rows weighed by them, [n, D] for each side, and
    the mean squared distance from the nearest codewords.
    """

    weights: Tensor
    real: Tensor
    turned: Tensor
    error: float

    def best(self) -> Tensor:
        """The table [n, D] of the least weighted distance, float32."""
        weights = self.weights.double()
        sums = weights.sum(1) + weights.sum(0)
        # A row that no sample is near must not make the equations singular.
        sums = sums + 1e-9 * sums.mean() + 1e-30
        equations = torch.complex(sums.diag(), weights - weights.T)
        told = _complex(self.real.double()) - 1j * _complex(self.turned.double())
        found = torch.linalg.solve(equations, told)
        return torch.cat([found.real, found.imag], -1).float()


def expect(x: Tensor, table: Tensor, heat: float) -> Soft:
    """Where the rows [M, D] belong, softly; `heat` is τ."""
    n, dim = len(table), x.shape[1]
    weights = torch.zeros(n, n, device=x.device)
    real, turned, error = torch.zeros(n, dim, device=x.device), torch.zeros(n, dim, device=x.device), 0.0
    for part in x.split(max(1, commuting.AT_ONCE // n**2)):
        size = part.square().sum(-1)[:, None, None]
        of_real, of_turned, both = commuting.parts(part, table)
        apart = (size - 2 * (of_real[:, :, None] + of_turned[:, None] + both)).clamp(min=0)
        error += float(apart.flatten(1).amin(1).double().sum())
        soft = (-apart.sqrt() / heat).flatten(1).softmax(-1).view_as(apart)
        weights += soft.sum(0)
        real += soft.sum(2).T @ part
        turned += soft.sum(1).T @ part
    return Soft(weights, real, turned, error / len(x))


def start(x: Tensor, n: int, seed: int) -> Tensor:
    """The table whose codewords lie nearest to n² random rows."""
    drawn = torch.randint(len(x), (n, n), generator=torch.Generator().manual_seed(seed)).to(x.device)
    words = x[drawn]
    return Soft(torch.ones(n, n, device=x.device), words.sum(1), words.sum(0), 0.0).best()


def heat(iteration: int, n_iterations: int) -> float:
    """The temperature, falling by the same factor each time."""
    return float(HOT * (COLD / HOT) ** (iteration / max(1, n_iterations - 1)))


def near(x: Tensor, table: Tensor) -> Tensor:
    """The codewords nearest to rows [M, D]."""
    return commuting.word(commuting.nearest(x, table), table)


def _complex(x: Tensor) -> Tensor:
    return torch.complex(*x.chunk(2, -1))
