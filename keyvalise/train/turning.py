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
"""Temperatures of the first and the last soft iteration, over the size of what is coded: a thousandth and a
hundredth of it of the length of a token's keys where eight heads share it.
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
    """Where the rows [M, D] belong: softly at the temperature `heat`, to the nearest codeword alone at 0."""
    found = [_nearest(x, table)] if heat == 0 else [_soft(part, table, heat) for part in _split(x, table)]
    weights, real, turned = (
        torch.stack(sums).sum(0) for sums in zip(*(one[:3] for one in found), strict=True)
    )
    return Soft(weights, real, turned, sum(one[3] for one in found) / len(x))


def _split(x: Tensor, table: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.split(max(1, commuting.AT_ONCE // len(table) ** 2)))


def _soft(x: Tensor, table: Tensor, heat: float) -> tuple[Tensor, Tensor, Tensor, float]:
    apart = commuting.distances(x, table).clamp(min=0)
    soft = (-apart.sqrt() / heat).flatten(1).softmax(-1).view_as(apart)
    error = float(apart.flatten(1).amin(1).double().sum())
    return soft.sum(0), soft.sum(2).T @ x, soft.sum(1).T @ x, error


def _nearest(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    n, codes = len(table), commuting.encode(x, table[None])[:, 0]
    weights = torch.bincount(codes, minlength=n * n).view(n, n).to(x.dtype)
    real, turned = (torch.zeros_like(table).index_add_(0, line, x) for line in (codes // n, codes % n))
    return weights, real, turned, float((x - commuting.word(codes, table)).double().square().sum())


def start(x: Tensor, n: int, seed: int) -> Tensor:
    """The table whose codewords lie nearest to n² random rows."""
    drawn = torch.randint(len(x), (n, n), generator=torch.Generator().manual_seed(seed)).to(x.device)
    words = x[drawn]
    return Soft(torch.ones(n, n, device=x.device), words.sum(1), words.sum(0), 0.0).best()


def heat(turn: int, n_turns: int) -> float:
    """The temperature, falling by the same factor each time, over the size of what is coded."""
    return float(HOT * (COLD / HOT) ** (turn / max(1, n_turns - 1)))


def near(x: Tensor, table: Tensor) -> Tensor:
    """The codewords nearest to rows [M, D]."""
    return commuting.word(commuting.encode(x, table[None])[:, 0], table)


def gain(x: Tensor, tables: Tensor) -> float:
    """What makes sums of codewords of rows [M, D] as long as the rows: a mean of many is shorter than each.

    Reduces to 1 for rows that their sums do not err from
    """
    heads = torch.zeros(len(x), dtype=torch.long, device=x.device)
    held = float(commuting.decode(commuting.encode(x, tables), tables[None], heads).norm())
    return float(x.norm()) / held if held > 0 else 1.0


def _complex(x: Tensor) -> Tensor:
    return torch.complex(*x.chunk(2, -1))
