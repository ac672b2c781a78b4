"""What holds for every transform: there and back again, rows by themselves, bytes as declared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise import Recipe
from keyvalise.ops import hadamard
from keyvalise.recipe.turned import Turned
from keyvalise.recipe.words import make
from keyvalise.types.code import Fitted, Where
from keyvalise.types.data import Env
from keyvalise.types.errors import RecipeError, UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Share
from tests.support import books, coding
from tests.unit.builders import random

GEOMETRY = Geometry(4, 8, 4, 63, 36, torch.bfloat16, 0.1)
LEARNED = {name: books.asset(name, 4, GEOMETRY).tensors for name in ("svd", "lean")}
ENV = Env(0, GEOMETRY, fixed=LEARNED)
WHERE = Where(torch.tensor([0, 0, 1, 1, 1, 3, 3]), torch.tensor([0, 0, 1, 1, 1, 3, 3]))
FULL = {"rank": Share(100), "values": Share(100)}
TRANSFORMS = ["hadamard", "center", "svd", "lean"]


def rows() -> tuple[Tensor, Tensor]:
    """Seven entries of three of four heads; the third channel of the keys is far from zero."""
    keys, values = random(7, 63, seed=1), random(7, 36, seed=2)
    keys[:, 2] += 50
    return keys, values


def made(name: str) -> Any:
    """A transform that loses nothing."""
    return make(name, named=FULL if name in LEARNED else None)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_there_and_back(name: str) -> None:
    part, (keys, values) = made(name), rows()
    home = part.fit(ENV, keys, values, WHERE, 4) if isinstance(part, Fitted) else {}
    there = part.forward(ENV, keys, values, WHERE, home)
    back = part.backward(ENV, *there, WHERE, home)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(back, (keys, values), strict=True))
    assert not torch.allclose(there[0], keys, atol=1e-2)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_rows_do_not_look_at_each_other(name: str) -> None:
    part, (keys, values) = made(name), rows()
    home = part.fit(ENV, keys, values, WHERE, 4) if isinstance(part, Fitted) else {}
    whole = part.forward(ENV, keys, values, WHERE, home)
    some = torch.tensor([5, 0, 3])
    alone = part.forward(ENV, keys[some], values[some], Where(WHERE.heads[some], WHERE.homes[some]), home)
    assert torch.allclose(whole[0][some], alone[0], atol=1e-5) and torch.allclose(
        whole[1][some], alone[1], atol=1e-5
    )


@pytest.mark.parametrize("dim", [1, 7, 63, 64, 130])
def test_hadamard_keeps_lengths_and_undoes_itself(dim: int) -> None:
    x = random(9, dim, seed=3)
    y = hadamard.rotate(x)
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    assert torch.allclose(hadamard.rotate(y), x, atol=1e-5)
    assert sum(hadamard.blocks(dim)) == dim


def test_hadamard_is_the_sylvester_matrix() -> None:
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    sylvester = torch.kron(torch.kron(two, two), two) / 8**0.5
    assert torch.allclose(hadamard.rotate(torch.eye(8)), sylvester, atol=1e-6)


def test_a_loud_channel_is_shared_out() -> None:
    keys = torch.zeros(1, 64)
    keys[0, 5] = 8.0
    assert torch.allclose(hadamard.rotate(keys).abs(), torch.ones(1, 64))


def test_center_takes_each_homes_own_mean_and_none_where_nothing_is() -> None:
    part, (keys, values) = make("center"), rows()
    home = part.fit(ENV, keys, values, WHERE, 4)
    for i in range(4):
        mine = keys[WHERE.homes == i]
        want = mine.mean(0) if len(mine) else torch.zeros(63)
        assert torch.allclose(home["keys"][i].float(), want, rtol=2e-3, atol=1e-3)
    assert sum(tensor[0].nbytes for tensor in home.values()) == part.home_bytes(GEOMETRY)


def test_centred_codes_err_less_where_channels_are_biased() -> None:
    keys, values = rows()
    plain, centred = make("int4"), Turned((make("center"),), make("int4"))
    env = replace(ENV, geometry=replace(GEOMETRY, key_dim=63))
    errors = []
    for code in (plain, centred):
        again = coding.again(code, env, keys, values)
        errors.append(float((again[0] - keys).square().sum()))
    assert errors[1] < errors[0] / 4


def test_a_chain_of_transforms_is_undone_in_reverse() -> None:
    code: Any = Turned((make("center"), make("hadamard")), make("int8"))
    keys, values = rows()
    again = coding.again(code, ENV, keys, values)
    assert float((again[0] - keys).abs().max()) < 0.2 and float((again[1] - values).abs().max()) < 0.1


def test_sides_that_do_not_go_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Turned((make("center", named={"side": "post"}), make("center")), make("int4"))
    with pytest.raises(UnmetNeed, match="center needs keys as they are stored, center needs keys before"):
        both.check(GEOMETRY)


@pytest.mark.parametrize("text", ["hadamard", "snapkv > hadamard @ 10%", "center @ 30%"])
def test_a_transform_without_a_code_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="changes what a code is given, and there is no code"):
        Recipe.parse(text)


@pytest.mark.parametrize(
    "text", ["hadamard > int4", "center(side=post) > hadamard > kivi(2) @ 40%", "center > int8 on 1.."]
)
def test_texts_and_json_come_back(text: str) -> None:
    recipe = Recipe.parse(text)
    assert str(recipe) == text and Recipe.from_json(recipe.to_json()) == recipe
