"""Packing: nothing is lost, nothing is wasted."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import pack


def codes(dim: int, bits: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(dim * 10 + bits)
    return torch.randint(0, 2**bits, (5, dim), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("dim", [1, 3, 7, 63, 130])
def test_unpacking_gives_the_codes_back(dim: int, bits: int) -> None:
    given = codes(dim, bits)
    before = given.clone()
    packed = pack.pack(given, bits)
    assert packed.shape == (5, pack.width(dim, bits)) and packed.dtype == torch.uint8
    assert torch.equal(pack.unpack(packed, bits, dim), given)
    assert torch.equal(given, before)


@pytest.mark.parametrize(
    ("dim", "bits", "width"), [(63, 8, 63), (63, 4, 32), (63, 2, 16), (130, 2, 33), (7, 1, 1)]
)
def test_width_is_the_fewest_whole_bytes(dim: int, bits: int, width: int) -> None:
    assert pack.width(dim, bits) == width


def test_a_channel_lies_where_the_layout_says() -> None:
    given = torch.zeros(1, 7, dtype=torch.uint8)
    given[0, 5] = 3
    packed = pack.pack(given, 2)
    assert packed.tolist() == [[0, 3 << 4]]


def test_unused_bits_are_zero() -> None:
    packed = pack.pack(torch.full((1, 5), 15, dtype=torch.uint8), 4)
    assert packed.tolist() == [[255, 255, 15]]


def test_packed_codes_do_not_share_memory_with_the_given_ones() -> None:
    given = codes(7, 8)
    packed = pack.pack(given, 8)
    packed.zero_()
    assert given.any()
