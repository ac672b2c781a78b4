"""Bases in which few numbers say most of a vector: by what the vectors are (SVD), or by what queries see of
them (LeanVec).

Axes     … any, for all of them at once; D the size of a vector, r of what is kept of it
Moments  covariances [..., D, D] in float64
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.types.code import Back
from keyvalise.types.errors import BadArgument
from keyvalise.types.quantity import Amount, count

DAMPING = 1e-4
"""What is added to the diagonal of a covariance, as a share of its mean: directions that no sample took."""

ROUNDS, FALLING, TOLERANCE = 500, 0.999, 1e-6
"""Most steps of Frank-Wolfe, the power by which their size falls, and the share of the loss that is worth
another.
"""


@dataclass(frozen=True, slots=True)
class Map:
    """The way into few numbers and back, for every head: x' = (x − mean)·into, x = x'·backᵀ + mean.

    Shapes   into, back [H, D, r], mean [H, D]
    """

    into: Tensor
    back: Tensor
    mean: Tensor

    @property
    def way(self) -> Back:
        """The way back, for every row alike."""
        return Back(self.back[None], self.mean[None])

    def down(self, x: Tensor, heads: Tensor) -> Tensor:
        """[N, r] of x [N, D], each by the map of its head: x·into − mean·into."""
        offset = -(self.mean[:, None] @ self.into)[:, 0]
        return _by_head(x, self.into, offset, heads)

    def up(self, x: Tensor, heads: Tensor) -> Tensor:
        """[N, D] of x [N, r]."""
        return _by_head(x, self.back.mT, self.mean, heads)


def _by_head(x: Tensor, maps: Tensor, offsets: Tensor, heads: Tensor) -> Tensor:
    """offsets[heads[n]] + x[n]·maps[heads[n]]: one product for every run of entries of one head."""
    own, sizes = (found.tolist() for found in torch.unique_consecutive(heads, return_counts=True))
    runs = zip(own, x.split(sizes), strict=True)
    parts = [torch.addmm(offsets[h].to(x.dtype), part, maps[h].to(x.dtype)) for h, part in runs]
    return parts[0] if len(parts) == 1 else torch.cat([x.new_zeros(0, maps.shape[2]), *parts])


def rank(amount: Amount, whole: int, name: str) -> int:
    """An amount of numbers out of `whole`, at least one.

    Raises   BadArgument where there are not so many
    """
    found = max(1, count(amount, whole))
    if found > whole:
        raise BadArgument(name, amount, f"at most the head size {whole}")
    return found


def principal(covariance: Tensor) -> Tensor:
    """The principal directions as columns, the strongest first: [..., D, D], its first r columns a basis."""
    basis = torch.linalg.eigh(covariance).eigenvectors.flip(-1)
    return _upright(basis)


def lean(of_queries: Tensor, of_keys: Tensor, damping: float = DAMPING) -> tuple[Tensor, Tensor]:
    """A, B [..., D, D] such that for every r their first r columns are the best A·Bᵀ of rank r.

    Formula  min E(qᵀA·Bᵀk − qᵀk)²:  U·S·Vᵀ = C_q^½·C_k^½,  A = C_q^−½·U,  B = C_k^−½·V·S;  A·Bᵀ = 1 at r = D.
             The size S stands in B, so that an error of any latent number costs every query the same
    """
    half_q, inverse_q = _roots(of_queries, damping)
    half_k, inverse_k = _roots(of_keys, damping)
    left, size, right = torch.linalg.svd(half_q @ half_k)
    return inverse_q @ left, inverse_k @ right.mT * size[..., None, :]


def frank_wolfe(of_queries: Tensor, of_keys: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """A, B [..., D, r] whose columns are at most orthonormal, found from the principal directions on.

    Formula  L = tr(M·C_k·Mᵀ·C_q), M = A·Bᵀ − 1;  A ← (1 − γ)·A + γ·U·Vᵀ of −∇_A L = U·Σ·Vᵀ, then B likewise,
             γ = (t + 2)^−0.999, t = 0, 1, …
    """
    a = b = principal(of_keys)[..., :rank].contiguous()
    best, least = (a, b), loss(a, b, of_queries, of_keys)
    before = least
    for step in range(ROUNDS):
        share = (step + 2) ** -FALLING
        a = (1 - share) * a + share * _polar(_pull(b, a, of_keys, of_queries))
        b = (1 - share) * b + share * _polar(_pull(a, b, of_queries, of_keys))
        found = loss(a, b, of_queries, of_keys)
        is_better = (found < least)[..., None, None]
        best = torch.where(is_better, a, best[0]), torch.where(is_better, b, best[1])
        least = torch.minimum(least, found)
        if bool(((before - found).abs() <= TOLERANCE * before).all()):
            break
        before = found
    return best


def loss(a: Tensor, b: Tensor, of_queries: Tensor, of_keys: Tensor) -> Tensor:
    """E(qᵀA·Bᵀk − qᵀk)² [...] for independent queries and keys."""
    off = a @ b.mT - torch.eye(a.shape[-2], dtype=a.dtype, device=a.device)
    return (of_queries @ off @ of_keys * off).sum((-1, -2))


def _pull(other: Tensor, own: Tensor, of_other: Tensor, of_own: Tensor) -> Tensor:
    """−∇/2 of the loss in `own`, where own·otherᵀ should be 1 between what each of them meets."""
    seen = of_own @ (torch.eye(own.shape[-2], dtype=own.dtype, device=own.device) - own @ other.mT)
    return seen @ of_other @ other


def _polar(x: Tensor) -> Tensor:
    """U·Vᵀ of the singular value decomposition."""
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    turned: Tensor = left @ right
    return turned


def _roots(covariance: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """C^½ and C^−½ of a covariance, damped."""
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    floor = damping * torch.where(mean > 0, mean, 1.0)
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    values, vectors = torch.linalg.eigh(covariance + floor[..., None, None] * eye)
    root = values.clamp(min=floor[..., None]).sqrt()
    return vectors * root[..., None, :] @ vectors.mT, vectors / root[..., None, :] @ vectors.mT


def _upright(basis: Tensor) -> Tensor:
    """The same columns, each with its largest number positive, so that no solver's sign remains."""
    largest = basis.abs().argmax(-2, keepdim=True)
    return basis * basis.gather(-2, largest).sign()
