"""Numbers of codewords in bytes: all come back, in as many bytes as counted, and no bits mean nothing."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import indices, radix, resbit

COUNTS = [2, 3, 5, 16, 100, 256, 300, 1000, 4096, 65535, 65536]


@pytest.mark.parametrize("how", ["packed", "resbit"])
@pytest.mark.parametrize("n", COUNTS)
def test_indices_come_back(n: int, how: str) -> None:
    for m in (1, 7, 21):
        codes = torch.randint(0, n, (7, m), generator=torch.Generator().manual_seed(n))
        codes[0], codes[1] = 0, n - 1
        packed = indices.write(codes, n, how)
        assert packed.dtype == torch.uint8 and packed.shape == (7, indices.width(m, n, how))
        assert packed.untyped_storage().nbytes() == packed.numel()
        assert torch.equal(indices.read(packed, n, m, how), codes.int())


@pytest.mark.parametrize("n", COUNTS)
def test_whatever_bits_there_are_they_are_an_index(n: int) -> None:
    noise = torch.Generator().manual_seed(n)
    packed = torch.randint(0, 256, (300, indices.width(7, n, "resbit")), dtype=torch.uint8, generator=noise)
    found = indices.read(packed, n, 7, "resbit")
    assert int(found.min()) >= 0 and int(found.max()) <= n - 1


@pytest.mark.parametrize("n", COUNTS)
def test_fields_say_no_more_than_the_largest_index(n: int) -> None:
    widths = resbit.widths(n)
    assert sum(2**w - 1 for w in widths) == n - 1
    assert list(widths) == sorted(widths, reverse=True) and sum(widths) >= (n - 1).bit_length()
    if n & (n - 1) == 0:
        assert widths == (n.bit_length() - 1,), "a power of two is a plain number"


@pytest.mark.parametrize(
    ("m", "n", "n_bytes"), [(5, 3, 1), (10, 3, 2), (1, 3, 1), (3, 6, 1), (8, 100, 7), (21, 300, 25)]
)
def test_digits_take_little_more_than_their_logarithm(m: int, n: int, n_bytes: int) -> None:
    assert radix.width(m, n) <= n_bytes
    assert 8 * radix.width(m, n) >= (n**m - 1).bit_length()
