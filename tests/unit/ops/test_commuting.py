"""Codewords that turn like keys: before or after the rotation, looked up or spelled out, found fast or
slowly."""

from __future__ import annotations

import pytest
import torch

from keyvalise.ops import commuting, rope
from keyvalise.ops.fast import search
from keyvalise.types.geometry import Rope
from tests.unit.builders import make_rope, random

ROPES = [
    make_rope(24),
    make_rope(24, interleaved=True, scaling=1.3),
    make_rope(10),
    make_rope(10, interleaved=True),
]
"""In both layouts, of the whole head and of a part of it."""


@pytest.mark.parametrize("turn", [*ROPES, None])
def test_pairs_are_those_of_the_embedding(turn: Rope | None) -> None:
    x = random(7, 24, seed=1)
    paired = commuting.paired(x, turn)
    assert torch.equal(commuting.unpaired(paired, turn), x)
    if turn is None:
        return
    places = torch.arange(7) * 3
    z = torch.complex(*paired.chunk(2, -1))[:, : turn.width // 2]
    turned = torch.complex(*commuting.paired(rope.apply(x, places, turn), turn).chunk(2, -1))
    angle = torch.polar(torch.tensor(turn.scaling), places[:, None] * turn.frequencies)
    assert torch.allclose(turned[:, : turn.width // 2], angle * z, atol=1e-5)
    rest = slice(turn.width // 2, None)
    assert torch.equal(turned[:, rest], torch.complex(*paired.chunk(2, -1))[:, rest])


@pytest.mark.parametrize("turn", ROPES)
def test_a_turned_codeword_is_the_codeword_of_a_turned_table(turn: Rope) -> None:
    table, codes, place = random(5, 24, seed=2), torch.arange(25), torch.tensor(11)

    def turned(x: torch.Tensor) -> torch.Tensor:
        return commuting.paired(rope.apply(commuting.unpaired(x, turn), place, turn), turn)

    assert torch.allclose(
        turned(commuting.word(codes, table)), commuting.word(codes, turned(table)), atol=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [4, 7, 64])
def test_the_nearest_codeword_is_found_in_parts(n: int, dtype: torch.dtype) -> None:
    x, table = random(130, 14, seed=3).to(dtype), random(n, 14, seed=4).to(dtype)
    words = commuting.word(torch.arange(n * n), table)
    assert torch.equal(commuting.nearest(x, table), torch.cdist(x, words).argmin(1))


def test_compiled_and_plain_searches_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, table = random(63, 10, seed=5), random(8, 10, seed=6)
    fast = commuting.nearest(x, table)
    monkeypatch.setattr(search, "available", lambda x: False)
    assert torch.equal(commuting.nearest(x, table), fast)


def test_every_stage_errs_less() -> None:
    tables = 0.5 ** torch.arange(4)[:, None, None] * random(4, 16, 12, seed=7)
    x, heads = random(130, 12, seed=8), torch.zeros(130, dtype=torch.long)
    codes = commuting.encode(x, tables)
    errors = [
        float((x - commuting.decode(codes[:, :n], tables[None], heads)).square().sum()) for n in range(5)
    ]
    assert errors == sorted(errors, reverse=True) and errors[4] < 0.5 * errors[0]


@pytest.mark.parametrize("turn", [make_rope(24), make_rope(24, interleaved=True)])
def test_looked_up_logits_are_those_of_keys_spelled_out(turn: Rope) -> None:
    tables, codes, q = random(3, 8, 24, seed=9), torch.randint(64, (63, 3)), random(5, 24, seed=10)
    places, heads = torch.arange(63) + 7, torch.zeros(63, dtype=torch.long)
    keys = commuting.unpaired(commuting.decode(codes, tables[None], heads), turn)
    want = q @ rope.apply(keys, places, turn).T
    looked_up = commuting.logits(commuting.paired(q, turn), codes, tables, turn.angles(places))
    assert torch.allclose(looked_up * turn.scaling, want, atol=1e-4)
