"""Keys of a layer in codewords: centred, scaled, with their heads' tables, in as many bytes as they say."""

from __future__ import annotations

import torch

from keyvalise.ops import commuting, rope
from keyvalise.ops.turn import Turn
from keyvalise.ops.words import Words
from tests.unit.builders import make_rope, random

TURN = make_rope(10, interleaved=True, scaling=1.2)


def held(scale: float = 1.0, middle: float = 0.0, gain: float = 1.0) -> Words:
    """Of two heads, with three stages of 8 rows."""
    tables = 0.5 ** torch.arange(3)[:, None, None] * random(2, 3, 8, 12, seed=1)
    gains = torch.full((2,), gain)
    return Words(tables, torch.full((2, 12), middle), torch.full((2, 12), scale), gains, TURN)


def test_codes_are_bytes_and_come_back_with_their_heads_tables() -> None:
    words, heads = held(), torch.arange(21) % 2
    codes = torch.randint(64, (21, 3), generator=torch.Generator().manual_seed(0))
    keys = commuting.unpaired(commuting.decode(codes, words.tables, heads), TURN)
    packed = words.write(keys, heads)
    assert packed.dtype == torch.uint8 and packed.shape == (21, 3)
    near = words.read(packed, heads)
    assert float((near - keys).norm()) < 0.6 * float(keys.norm())
    own = torch.arange(21)[heads == 1]
    assert torch.equal(words.write(keys[own], heads[own]), packed[own])


def test_what_is_coded_is_centred_and_scaled() -> None:
    x, heads = random(21, 12, seed=2), torch.zeros(21, dtype=torch.long)
    near = held().read(held().write(x, heads), heads)
    other = held(scale=3.0, middle=0.5)
    moved = other.read(other.write(x / 3 + 0.5, heads), heads)
    assert torch.allclose(moved, near / 3 + 0.5, atol=1e-5)
    louder = held(gain=1.5)
    assert torch.equal(louder.write(x, heads), held().write(x, heads))
    assert torch.allclose(louder.read(louder.write(x, heads), heads), 1.5 * near, atol=1e-5)


def test_queries_meet_keys_as_the_model_turns_them() -> None:
    words, heads, places = held(), torch.arange(21) % 2, torch.arange(21) * 3
    packed, q = words.write(random(21, 12, seed=3), heads), random(5, 12, seed=4)
    want = q @ rope.apply(words.read(packed, heads), places, TURN).T
    assert torch.allclose(words.dots(q, packed, heads, Turn(TURN, places)), want, atol=1e-5)
