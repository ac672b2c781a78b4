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
    apart = torch.cdist(x, commuting.word(torch.arange(n * n), table))
    assert torch.allclose(commuting.distances(x, table).flatten(1), apart.square(), atol=1e-3)
    assert torch.equal(commuting.encode(x, table[None], 1)[:, 0], apart.argmin(1))


@pytest.mark.parametrize("beam", [1, 3, 4])
def test_compiled_and_plain_searches_agree(beam: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, tables = random(63, 10, seed=5), random(3, 8, 10, seed=6)
    fast = commuting.encode(x, tables, beam)
    monkeypatch.setattr(search, "available", lambda x: False)
    assert torch.equal(commuting.encode(x, tables, beam), fast)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_paths_find_the_nearest_sum_and_more_err_less(dtype: torch.dtype) -> None:
    x, tables = random(63, 6, seed=5).to(dtype), random(2, 3, 6, seed=6).to(dtype)
    every = torch.stack([commuting.word(torch.arange(9), table) for table in tables])
    sums = (every[0][:, None] + every[1]).flatten(0, 1)
    heads = torch.zeros(63, dtype=torch.long)
    errors = [
        (x - commuting.decode(commuting.encode(x, tables, beam), tables[None].float(), heads)).norm(dim=1)
        for beam in (1, 9)
    ]
    assert torch.allclose(errors[1], torch.cdist(x, sums).min(1).values.to(errors[1].dtype), atol=1e-5)
    assert float(errors[1].mean()) < float(errors[0].mean())


def test_one_path_takes_the_nearest_of_what_is_left() -> None:
    rest, tables = random(63, 10, seed=5), random(3, 8, 10, seed=6)
    codes = commuting.encode(rest, tables, 1)
    for table, code in zip(tables, codes.T, strict=True):
        assert torch.equal(code, commuting.distances(rest, table).flatten(1).argmin(1))
        rest = rest - commuting.word(code, table)


def test_every_stage_errs_less() -> None:
    tables = 0.5 ** torch.arange(4)[:, None, None] * random(4, 16, 12, seed=7)
    x, heads = random(130, 12, seed=8), torch.zeros(130, dtype=torch.long)
    codes = commuting.encode(x, tables, 1)
    errors = [
        float((x - commuting.decode(codes[:, :n], tables[None], heads)).square().sum()) for n in range(5)
    ]
    assert errors == sorted(errors, reverse=True) and errors[4] < 0.5 * errors[0]


@pytest.mark.parametrize("turn", [make_rope(24), make_rope(24, interleaved=True)])
def test_looked_up_logits_are_those_of_keys_spelled_out(turn: Rope) -> None:
    tables, q = random(3, 8, 24, seed=9), random(5, 24, seed=10)
    codes = torch.randint(64, (63, 3), generator=torch.Generator().manual_seed(0))
    places, heads = torch.arange(63) + 7, torch.zeros(63, dtype=torch.long)
    keys = commuting.unpaired(commuting.decode(codes, tables[None], heads), turn)
    want = q @ rope.apply(keys, places, turn).T
    looked_up = commuting.logits(commuting.paired(q, turn), codes, tables, turn.angles(places))
    assert torch.allclose(looked_up * turn.scaling, want, atol=1e-4)
