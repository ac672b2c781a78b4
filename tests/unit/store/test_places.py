"""Ordinals of a stretch of entries are those of all of them, cut."""

from __future__ import annotations

import pytest
import torch

from keyvalise.store.places import Places

SHAPE, COUNTS = (3, 2), (5, 3, 0, 4, 6, 2)
ORDINALS = {
    "runs": [0, 1, 2, 3, 4, 0, 1, 2, 7, 8, 9, 10, 3, 4, 5, 6, 7, 8, 3, 4],
    "gaps in one row": [0, 1, 2, 3, 4, 0, 1, 2, 7, 9, 12, 20, 3, 4, 5, 6, 7, 8, 3, 4],
    "gaps everywhere": [0, 2, 3, 4, 9, 0, 1, 3, 7, 9, 12, 20, 3, 4, 5, 6, 8, 9, 3, 5],
}


@pytest.mark.parametrize("name", ORDINALS)
def test_a_stretch_is_cut_out_of_all(name: str) -> None:
    ordinals = torch.tensor(ORDINALS[name], dtype=torch.int32)
    places = Places.of(ordinals, COUNTS, SHAPE)
    assert torch.equal(places.all(), ordinals)
    for begin in range(len(ordinals) + 1):
        for end in range(begin, len(ordinals) + 1):
            found = places.between(begin, end)
            assert found.dtype == torch.int32 and torch.equal(found, ordinals[begin:end]), (begin, end)
