"""Signed sums: searches that are exact where they follow every path, and never worse for following more."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import signs
from keyvalise.ops.fast import search
from keyvalise.ops.sums import Sums
from tests.unit.builders import random


def errors(x: torch.Tensor, matrix: torch.Tensor, beam: int) -> torch.Tensor:
    return (x - signs.decode(signs.encode(x, matrix, beam), matrix)).square().sum(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_paths_find_the_best_signs(dtype: torch.dtype) -> None:
    x, matrix = random(63, 5, seed=1).to(dtype), random(7, 5, seed=2).to(dtype)
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=dtype)] * 7) @ matrix
    best = torch.cdist(x, every).square().min(1).values
    assert torch.allclose(errors(x, matrix, 128), best, rtol=1e-4, atol=1e-5)


def test_more_paths_err_less() -> None:
    x, matrix = random(130, 12, seed=3), random(24, 12, seed=4)
    found = [float(errors(x, matrix, beam).mean()) for beam in (1, 4, 16)]
    assert found == sorted(found, reverse=True) and found[2] < 0.7 * found[0]


@pytest.mark.parametrize("beam", [1, 3, 8])
def test_compiled_and_plain_searches_agree(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, matrix = random(63, 10, seed=5), random(21, 10, seed=6)
    fast = signs.encode(x, matrix, beam)
    monkeypatch.setattr(search, "available", lambda x: False)
    assert torch.equal(signs.encode(x, matrix, beam), fast)


def test_one_sign_after_the_other() -> None:
    x, matrix = random(7, 5, seed=7), random(6, 5, seed=8)
    rest, bits = x.clone(), []
    for row in matrix:
        bits.append(rest @ row >= 0)
        rest = rest - torch.where(bits[-1], 1.0, -1.0)[:, None] * row
    assert torch.equal(signs.encode(x, matrix, 1), torch.stack(bits, 1).to(torch.uint8))


def test_the_factor_errs_least_and_sums_come_before_the_matrix() -> None:
    sums = Sums(random(2, 20, 10, seed=9), random(2, 10, seed=10))
    x, heads = 3 * random(63, 10, seed=11), torch.arange(63) % 2
    packed, factor = sums.write(x, heads)
    assert packed.shape == (63, 3) and factor.dtype == torch.float16
    near = sums.read(packed, factor, heads)
    error = (x - near).square().sum(-1)
    for other in (0.97, 1.03):
        worse = sums.read(packed, (factor.float() * other).half(), heads)
        assert bool(((x - worse).square().sum(-1) >= error * (1 - 1e-3)).all())
    weights, mine = torch.rand(3, 63), heads == 1
    summed = sums.weighed(weights[:, mine], packed[mine], factor[mine], 1)
    assert torch.allclose(summed, weights[:, mine] @ near[mine], atol=1e-4)


def test_a_value_at_the_middle_is_the_middle() -> None:
    sums = Sums(random(1, 8, 4, seed=12), random(1, 4, seed=13))
    x = sums.middles.expand(7, -1)
    heads = torch.zeros(7, dtype=torch.long)
    assert torch.allclose(sums.read(*sums.write(x, heads), heads), x)
