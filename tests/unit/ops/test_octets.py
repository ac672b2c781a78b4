"""Eight numbers at a time: the nearest vector, signs aside, and as near as noise can be coded."""

from __future__ import annotations

import pytest
import torch

from keyvalise.host import assets
from keyvalise.ops import octets
from keyvalise.ops.octets import Book
from keyvalise.store import asset
from tests.unit.builders import random

SHIPPED = asset.read(assets.SHIPPED / assets.UNIVERSAL / "octets.safetensors").tensors
BOOKS = {1: Book(SHIPPED["signed"], 1), 2: Book(SHIPPED["positive"], 2)}
REFERENCE = {1: 0.324, 2: 0.096}
"""What a short k-means reaches on independent normal numbers; within a twentieth."""


@pytest.mark.parametrize("bits", [1, 2])
def test_noise_errs_as_it_should(bits: int) -> None:
    x = random(3000, 24, seed=bits)
    error = float((BOOKS[bits].decode(BOOKS[bits].encode(x)) - x).square().mean() / x.square().mean())
    assert 0.9 * REFERENCE[bits] < error < 1.05 * REFERENCE[bits]


@pytest.mark.parametrize("bits", [1, 2])
def test_no_other_vector_is_nearer(bits: int) -> None:
    x, book = random(7, 16, seed=3), BOOKS[bits]
    near = book.decode(book.encode(x)).view(14, 8)
    pieces = x.view(14, 8)
    vectors = book.vectors
    if bits == 2:
        patterns = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8)
        vectors = (patterns[:, None] * vectors).flatten(0, 1)
    best = torch.cdist(pieces, vectors).min(1).values
    assert torch.allclose((pieces - near).norm(dim=1), best, atol=1e-5)


def test_codes_are_bytes_and_signs_are_the_channels() -> None:
    x = random(5, 24, seed=4)
    codes = BOOKS[2].encode(x)
    assert codes.dtype == torch.uint8 and codes.shape == (5, 6) and BOOKS[1].encode(x).shape == (5, 3)
    near = BOOKS[2].decode(codes)
    assert torch.equal(near >= 0, x >= 0)
    assert [octets.n_pieces(dim) for dim in (1, 8, 63, 64, 130)] == [1, 1, 8, 8, 17]


def test_both_books_have_256_different_vectors() -> None:
    for book in BOOKS.values():
        assert book.vectors.shape == (256, 8) and len(book.vectors.unique(dim=0)) == 256
    assert bool((BOOKS[2].vectors > 0).all())
