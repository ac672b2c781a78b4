"""Lists and numbers on the command line."""

from __future__ import annotations

import pytest

from keyvalise.cli import bench
from keyvalise.types.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("snapkv", ["snapkv"]),
        (" snapkv , kivi @ 30% ,", ["snapkv", "kivi @ 30%"]),
        ("snapkv(window=64, pool=5) > int4,tova", ["snapkv(window=64, pool=5) > int4", "tova"]),
        ("at prompt: window(8) > pool(5, max), knorm", ["at prompt: window(8) > pool(5, max)", "knorm"]),
    ],
)  # fmt: skip
def test_commas_part_recipes_but_not_their_arguments(text, words):
    assert bench.listed(text) == words


@pytest.mark.parametrize("text", ["", " ", ",,"])
def test_a_list_of_nothing(text):
    with pytest.raises(InputError, match="cannot read the list"):
        bench.listed(text)


def test_numbers():
    assert bench.whole_numbers("--seeds", "1, 2,3") == [1, 2, 3]
    assert bench.whole_numbers("--seeds", "") == []
    with pytest.raises(InputError, match=r"--seeds takes whole numbers parted by commas, got '1\.5'"):
        bench.whole_numbers("--seeds", "1.5")
