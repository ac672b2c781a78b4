"""k-means: as good as it is known to be on normal numbers, exact where it can be, no centre left without
use.
"""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import closest, kmeans
from keyvalise.ops.fast import choose
from tests.unit.builders import random


def spread(x: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Mean squared distance to the nearest centre, by all distances."""
    return torch.cdist(x, centres).amin(-1).square().mean(-1)


@pytest.mark.parametrize(("dim", "k", "known"), [(1, 4, 0.117), (2, 16, 0.109), (2, 64, 0.030)])
def test_normal_numbers_are_coded_as_well_as_is_known(dim: int, k: int, known: float) -> None:
    x = random(1, 6000, dim, seed=dim)
    found = kmeans.fit(x, k)
    assert float(found.error) / dim == pytest.approx(known, rel=0.07)
    assert torch.allclose(found.error, spread(x, found.centres), rtol=1e-3)


def test_batches_are_nearly_as_good_as_the_whole() -> None:
    x = random(2, 6000, 2, seed=1)
    whole, parts = kmeans.fit(x, 16), kmeans.fit(x, 16, batch=700)
    assert float((parts.error / whole.error).max()) < 1.1


def test_sets_know_nothing_of_each_other() -> None:
    x = torch.stack([random(900, 3, seed=1), 5 + 2 * random(900, 3, seed=2)])
    found = kmeans.fit(x, 8)
    assert torch.allclose(found.error, spread(x, found.centres), rtol=1e-3)
    assert float(found.centres[1].mean()) > 4 and abs(float(found.centres[0].mean())) < 1
    assert float(found.error[1] / found.error[0]) == pytest.approx(4, rel=0.15)


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    x = random(1, 700, 4, seed=1)
    one, same, other = (kmeans.fit(x, 16, seed=seed).centres for seed in (3, 3, 4))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("k", [7, 20])
def test_as_many_centres_as_vectors_are_the_vectors(k: int) -> None:
    x = random(1, 7, 3, seed=1).repeat(1, 9, 1)
    found = kmeans.fit(x, k)
    assert float(found.error) < 1e-6 and bool(torch.isfinite(found.centres).all())


def test_an_empty_centre_goes_where_vectors_lie_far_from_theirs() -> None:
    x = torch.cat([random(500, 2, seed=1), torch.tensor([[90.0, 0.0]])])[None]
    centres = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [-500.0, 0.0]]])
    own = kmeans.nearest(x, centres)
    assert not bool((own == 2).any())
    moved, met = kmeans._moved(x, own, centres, torch.zeros(1, 3))
    assert moved[0, 2].tolist() == [90.0, 0.0] and float(met.sum()) == 501


def test_nearest_is_nearest_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_forced", lambda: False)
    x, centres = random(2, 63, 5, seed=1), random(2, 7, 5, seed=2)
    want = torch.cdist(x, centres).argmin(-1)
    assert torch.equal(kmeans.nearest(x, centres), want)
    monkeypatch.setattr(closest, "BLOCK", 20)
    assert torch.equal(kmeans.nearest(x, centres), want)
    assert kmeans.nearest(x[:, :0], centres).shape == (2, 0)
