"""Bases as whole numbers, and blocks of them: orthonormal whatever the numbers, near what was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from keyvalise.ops import principal, reflect


def moments(dim: int, fade: float = 6.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dim, dim)) * np.exp(-np.arange(dim) / fade)
    return mix @ mix.T


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize(("dim", "rank"), [(1, 1), (7, 3), (63, 63)])
def test_every_basis_is_orthonormal(dim: int, rank: int, bits: int) -> None:
    _, vectors = np.linalg.eigh(moments(dim))
    precision = np.full(rank, bits)
    numbers = reflect.fit(vectors[:, :rank], precision)
    assert [len(row) for row in numbers] == list(range(dim - 1, dim - 1 - rank, -1))
    basis = reflect.basis(numbers, dim, precision)
    assert np.abs(basis.T @ basis - np.eye(rank)).max() < 2e-6


def test_finer_numbers_come_nearer() -> None:
    _, vectors = np.linalg.eigh(moments(63))
    wanted = vectors[:, ::-1][:, :30]
    lost = []
    for bits in (2, 4, 6):
        basis = reflect.basis(reflect.fit(wanted, np.full(30, bits)), 63, np.full(30, bits))
        lost.append(1 - np.abs((basis * wanted).sum(0)).min())
    assert lost[0] > lost[1] > lost[2] and lost[2] < 1e-3


def test_shorter_bases_are_beginnings_of_longer_ones() -> None:
    block = principal.fit(moments(63), 0.05)
    assert 10 < block.rank < 63
    assert np.array_equal(block.cut(0, 7).matrix, block.matrix[:, :7])


def test_turned_components_are_nearly_independent() -> None:
    given = moments(63)
    turned = principal.fit(given, 0.05).matrix
    left = turned.T @ given @ turned
    off = left - np.diag(np.diag(left))
    # What is left between the others is small against a step of a third of the whole's deviation.
    assert np.abs(off[20:, 20:]).max() < (np.trace(given) / 63 / 9) / 12
    assert (np.diff(np.sqrt(np.diag(left))) < 0.2).all()


def test_wide_blocks_pay_for_many_tokens_only() -> None:
    joint, apart = moments(64), np.diag(np.full(64, 1.0))
    assert principal.choose(joint, 4000, [16, 32, 64], 0.3) == 64
    assert principal.choose(joint, 20, [16, 32, 64], 0.3) < 64
    assert principal.choose(apart, 4000, [16, 32, 64], 0.3) == 1
