"""Bases: the best there are of their rank, exact at full rank, for several heads at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.ops import project
from keyvalise.types.errors import BadArgument
from keyvalise.types.quantity import Share
from tests.unit.builders import random


def covariance(n: int, dim: int, seed: int) -> Tensor:
    """Of vectors with loud and quiet directions: float64 [n, dim, dim]."""
    mixed = random(n, dim, dim, seed=seed).double() * torch.logspace(0, -2, dim, dtype=torch.float64)
    return mixed @ mixed.mT


@pytest.mark.parametrize("rank", [1, 5, 13])
def test_principal_directions_keep_most(rank: int) -> None:
    c = covariance(3, 13, 1)
    basis = project.principal(c)
    assert torch.allclose(basis.mT @ basis, torch.eye(13, dtype=torch.float64).expand(3, -1, -1), atol=1e-9)
    kept = (basis[..., :rank].mT @ c @ basis[..., :rank]).diagonal(dim1=-2, dim2=-1).sum(-1)
    best = torch.linalg.eigvalsh(c).flip(-1)[:, :rank].sum(-1)
    assert torch.allclose(kept, best)
    assert bool((basis.gather(-2, basis.abs().argmax(-2, keepdim=True)) > 0).all()), "no sign is left open"


def test_full_rank_changes_no_product() -> None:
    a, b = project.lean(covariance(2, 13, 1), covariance(2, 13, 2))
    assert torch.allclose(a @ b.mT, torch.eye(13, dtype=torch.float64).expand(2, -1, -1), atol=1e-6)


@pytest.mark.parametrize("rank", [2, 6])
def test_the_closed_form_is_the_least_and_frank_wolfe_comes_near(rank: int) -> None:
    queries, keys = covariance(4, 13, 1), covariance(4, 13, 2)
    a, b = (x[..., :rank] for x in project.lean(queries, keys, damping=1e-9))
    closed = project.loss(a, b, queries, keys)
    basis = project.principal(keys)[..., :rank]
    by_keys = project.loss(basis, basis, queries, keys)
    iterated = project.loss(*project.frank_wolfe(queries, keys, rank), queries, keys)
    assert bool((closed <= iterated * (1 + 1e-6)).all()) and bool((iterated <= by_keys * (1 + 1e-6)).all())
    assert bool((closed < 0.9 * by_keys).any())
    nudged = project.loss(a + 1e-3 * random(*a.shape, seed=3), b, queries, keys)
    assert bool((nudged > closed).all())


def test_the_loss_is_that_of_products() -> None:
    q, k = random(4000, 5, seed=1).double(), 2 * random(4000, 5, seed=2).double()
    a, b = random(5, 2, seed=3).double(), random(5, 2, seed=4).double()
    want = ((q @ a) @ (k @ b).T - q @ k.T).square().mean()
    got = project.loss(a, b, q.T @ q / 4000, k.T @ k / 4000)
    assert float(got) == pytest.approx(float(want), rel=1e-9)


def test_queries_that_see_all_alike_ask_for_principal_components() -> None:
    keys = covariance(1, 9, 5)
    a, b = project.lean(torch.eye(9, dtype=torch.float64)[None], keys)
    basis = project.principal(keys)[..., :4]
    assert torch.allclose(a[..., :4] @ b[..., :4].mT, basis @ basis.mT, atol=1e-2)


def test_maps_are_each_heads_own_in_whatever_order_entries_come() -> None:
    into, mean = random(3, 7, 4, seed=1), random(3, 7, seed=2)
    x, heads = random(10, 7, seed=3), torch.tensor([0, 0, 2, 2, 2, 1, 0, 1, 1, 2])
    found = project.Map(into, into, mean)
    want = torch.stack([(row - mean[h]) @ into[h] for row, h in zip(x, heads, strict=True)])
    assert torch.allclose(found.down(x, heads), want, atol=1e-5)
    back = torch.stack([row @ into[h].T + mean[h] for row, h in zip(want, heads, strict=True)])
    assert torch.allclose(found.up(want, heads), back, atol=1e-5)
    assert found.down(x[:0], heads[:0]).shape == (0, 4)


def test_ranks_are_numbers_or_shares() -> None:
    assert project.rank(Share(50), 63, "rank") == 31 and project.rank(Share(1), 7, "rank") == 1
    assert project.rank(7, 7, "rank") == 7
    with pytest.raises(BadArgument, match="rank=8 is not allowed; rank must be at most the head size 7"):
        project.rank(8, 7, "rank")
