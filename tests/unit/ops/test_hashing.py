"""Draws are a pure function of their coordinates, uniform and uncorrelated."""

from __future__ import annotations

import hashlib

import torch

from keyvalise.ops import hashing
from tests.unit.builders import make_env

WORD = 2**64 - 1
STEP = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """The splitmix64 finalizer in Python's whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def expected(seed: int, part: str, layer: int, head: int, ordinal: int) -> float:
    key = int.from_bytes(hashlib.blake2b(f"{seed}|{part}|{layer}".encode(), digest_size=8).digest(), "little")
    word = mix((mix(((head + 1) * STEP + key) & WORD) + (ordinal + 1) * STEP) & WORD)
    return (word >> 11) / 2**53


def draw(
    n: int = 5000, *, seed: int = 3, part: str = "random", layer: int = 1, heads: int = 3
) -> torch.Tensor:
    ordinals = torch.arange(n).expand(1, heads, n)
    return hashing.uniform(seed, part, layer, torch.arange(heads), ordinals)[0]


def test_equals_whole_number_arithmetic() -> None:
    ordinals = torch.tensor([[[0, 1, 62, 10**6, 2**31 - 1]] * 3])
    got = hashing.uniform(7, "sample", 5, torch.arange(3), ordinals)
    want = [[[expected(7, "sample", 5, h, int(o)) for o in ordinals[0, 0]] for h in range(3)]]
    assert got.dtype == torch.float64
    assert got.tolist() == want


def test_independent_of_row_length_and_padding() -> None:
    ordinals = torch.tensor([[[3, 9, 11, -1]], [[9, 11, 40, 41]]], dtype=torch.int32)
    both = hashing.uniform(0, "random", 0, torch.arange(1), ordinals)
    alone = hashing.uniform(0, "random", 0, torch.arange(1), ordinals[1:, :, :2])
    assert torch.equal(both[0, 0, 1:3], both[1, 0, :2])
    assert torch.equal(alone[0, 0], both[1, 0, :2])


def test_every_coordinate_counts() -> None:
    base = draw(63)
    others = [draw(63, seed=4), draw(63, part="sample"), draw(63, layer=2)]
    assert all(not torch.isclose(base, other).any() for other in others)
    assert not torch.isclose(base[0], base[1]).any()


def test_uniform_and_uncorrelated() -> None:
    u = draw()
    assert ((u >= 0) & (u < 1)).all()
    share = torch.stack([torch.histc(row, 10, 0, 1) for row in u]) / u.shape[1]
    # Ten classes of 5000 draws: a share has standard deviation 0.0042.
    assert (share - 0.1).abs().max() < 5 * 0.0043
    heads = torch.corrcoef(u)
    neighbours = torch.corrcoef(torch.stack([u[0, :-1], u[0, 1:]]))
    assert neighbours[0, 1].abs() < 5 / 5000**0.5
    assert (heads - torch.eye(3)).abs().max() < 5 / 5000**0.5


def test_pairs_equal_whole_number_arithmetic() -> None:
    heads, queries = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[62, 10**6]], dtype=torch.int32)
    entries = torch.tensor([[[0, 5, 62], [1, 2, -1]]], dtype=torch.int32)
    got = hashing.per_pair(make_env(layer=5, seed=7), "gumbel", heads, queries, entries)
    assert got.dtype == torch.float32 and got.shape == (1, 2, 2, 2, 3)
    key = int.from_bytes(hashlib.blake2b(b"7|gumbel|5", digest_size=8).digest(), "little")
    for kv, g, s, t in torch.cartesian_prod(*map(torch.arange, got.shape[1:])).tolist():
        word = key
        for place in (int(heads[kv, g]), int(queries[0, s]), int(entries[0, kv, t])):
            word = mix((word + (place + 1) * STEP) & WORD)
        assert float(got[0, kv, g, s, t]) == ((word >> 41) + 0.5) / 2**23


def test_pairs_are_uniform_within_open_ends() -> None:
    places = torch.arange(300)
    u = hashing.per_pair(make_env(), "gumbel", places[:1, None], places[None], places[None, None]).flatten()
    assert ((u > 0) & (u < 1)).all()
    share = torch.histc(u, 10, 0, 1) / u.numel()
    # Ten classes of 90000 draws: a share has standard deviation 0.001.
    assert (share - 0.1).abs().max() < 5 * 0.001
    grid = u.view(300, 300)
    for a, b in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid, grid.T)):
        off = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
        assert off.abs() < 5 / 300
