"""Codes of any width come back from the bytes that were counted."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import bitpack


@pytest.mark.parametrize("m", [1, 2, 7, 21, 63])
@pytest.mark.parametrize("bits", range(1, 17))
def test_codes_come_back(bits: int, m: int) -> None:
    codes = torch.randint(0, 2**bits, (7, m), generator=torch.Generator().manual_seed(bits))
    codes[0], codes[1] = 0, 2**bits - 1
    packed = bitpack.pack_bits(codes, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (7, bitpack.width(m, bits))
    assert packed.untyped_storage().nbytes() == 7 * -(-m * bits // 8)
    assert torch.equal(bitpack.unpack_bits(packed, bits, m), codes.int())
    if bits <= 8:
        assert torch.equal(bitpack.unpack_bits(packed, bits, m, torch.uint8), codes.to(torch.uint8))


@pytest.mark.parametrize("bits", [3, 8, 12])
def test_the_stream_is_the_codes_lowest_bit_first(bits: int) -> None:
    codes = torch.tensor([[5, 0, 2, 7, 1]])
    value = sum(code << (i * bits) for i, code in enumerate(codes[0].tolist()))
    expected = list(value.to_bytes(bitpack.width(5, bits), "little"))
    assert bitpack.pack_bits(codes, bits)[0].tolist() == expected


def test_no_codes_are_no_bytes() -> None:
    assert bitpack.pack_bits(torch.empty(0, 7, dtype=torch.long), 12).shape == (0, 11)
    assert bitpack.unpack_bits(torch.empty(0, 11, dtype=torch.uint8), 12, 7).shape == (0, 7)


@pytest.mark.parametrize("bits", [0, 17])
def test_widths_beyond_16_bits_are_refused(bits: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 16 bits, got {bits}"):
        bitpack.pack_bits(torch.zeros(1, 1), bits)
