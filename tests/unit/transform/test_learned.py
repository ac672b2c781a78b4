"""Bases that were learned: what they keep, how they shrink a head, and products that queries see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.ops import project
from keyvalise.recipe.turned import Turned
from keyvalise.recipe.words import make
from keyvalise.types.code import Where
from keyvalise.types.data import Env
from keyvalise.types.errors import BadArgument
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Share
from tests.support import coding
from tests.unit.builders import random

GEOMETRY = Geometry(2, 4, 2, 20, 12, torch.float32, 0.2)
HEADS = torch.tensor([0] * 300 + [1] * 200)
WHERE = Where(HEADS, HEADS)


def rows() -> tuple[Tensor, Tensor, Tensor]:
    """Keys and values far from zero, that mostly lie in few directions; queries [2, 500, D] of other ones."""
    keys = 5 + random(500, 6, seed=1) @ random(6, 20, seed=2) + 0.05 * random(500, 20, seed=3)
    values = random(500, 4, seed=4) @ random(4, 12, seed=5) + 0.05 * random(500, 12, seed=6)
    queries = random(2, 500, 20, seed=7) * torch.logspace(0, -2, 20)
    return queries, keys, values


def learned() -> dict[str, dict[str, Tensor]]:
    """Bases for the second layer, as the training finds them."""
    queries, keys, values = rows()
    found: dict[str, list[Tensor]] = {}
    for head in range(2):
        for name, x in (("keys", keys), ("values", values)):
            own = x[head == HEADS].double()
            covariance = own.T.cov(correction=0)
            found.setdefault(f"{name}_mean", []).append(own.mean(0).float())
            found.setdefault(f"{name}_basis", []).append(project.principal(covariance).float())
            if name == "keys":
                q = queries[head].double()
                a, b = project.lean(q.T @ q / len(q), covariance)
                found.setdefault("of_queries", []).append(a.float())
                found.setdefault("of_keys", []).append(b.float())
    held = {name: torch.stack([torch.stack(x), torch.stack(x)]) for name, x in found.items()}
    return {"svd": held, "lean": held}


ENV = Env(1, GEOMETRY, fixed=learned())


def again(part: Any, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    inner = part.shape(GEOMETRY)
    there = part.forward(ENV, keys, values, WHERE, {})
    assert there[0].shape == (500, inner.key_dim) and there[1].shape == (500, inner.value_dim)
    back: tuple[Tensor, Tensor] = part.backward(ENV, *there, WHERE, {})
    return back


def of_logits(queries: Tensor, off: Tensor) -> float:
    """How far products of queries of a head are off."""
    return sum(float((queries[head] @ off[head == HEADS].T).square().mean()) for head in range(2))


def test_few_directions_are_nearly_all() -> None:
    _, keys, values = rows()
    back = again(make("svd", named={"rank": 6, "values": 4}), keys, values)
    for x, y in zip((keys, values), back, strict=True):
        assert float((x - y).norm() / (x - x.mean(0)).norm()) < 0.1
    errors = [
        float((again(make("svd", named={"rank": r}), keys, values)[0] - keys).norm()) for r in (2, 6, 11)
    ]
    assert errors == sorted(errors, reverse=True) and errors[0] > 3 * errors[1]


def test_queries_are_answered_better_from_what_they_see() -> None:
    queries, keys, values = rows()
    for rank in (2, 4):
        lean = again(make("lean", named={"rank": rank}), keys, values)
        plain = again(make("svd", named={"rank": rank}), keys, values)
        assert of_logits(queries, lean[0] - keys) < 0.8 * of_logits(queries, plain[0] - keys)
        assert torch.equal(lean[1], values), "values pass unless they are asked to shrink"
        assert float((lean[0] - keys).norm()) > float((plain[0] - keys).norm()), "no norm is least for both"


def test_an_equal_error_of_any_number_costs_queries_the_same() -> None:
    queries, keys, values = rows()
    part = make("lean", named={"rank": 5})
    there, _ = part.forward(ENV, keys, values, WHERE, {})
    costs = []
    for i in range(5):
        moved = there.clone()
        moved[:, i] += 0.01
        off = (
            part.backward(ENV, moved, values, WHERE, {})[0] - part.backward(ENV, there, values, WHERE, {})[0]
        )
        costs.append(of_logits(queries, off))
    assert max(costs) < 1.3 * min(costs)


@pytest.mark.parametrize("name", ["svd", "lean"])
def test_heads_shrink_for_the_code_behind(name: str) -> None:
    _, keys, values = rows()
    part = make(name, named={"rank": Share(25), "values": Share(50)})
    code = Turned((part,), make("int8"))
    assert code.bytes_per_entry(GEOMETRY) == (5 + 4) + (6 + 4)
    codes = coding.encode(code, ENV, keys, values, WHERE)
    held = sum(tensor.untyped_storage().nbytes() for tensor in codes.entry.values())
    assert held == 500 * code.bytes_per_entry(GEOMETRY)
    keys_back, values_back = code.decode(ENV, codes, WHERE, torch.float32)
    assert keys_back.shape == keys.shape and values_back.shape == values.shape


@pytest.mark.parametrize("name", ["svd", "lean"])
def test_ranks_above_the_head_are_refused(name: str) -> None:
    for field, dim in (("rank", 20), ("values", 12)):
        with pytest.raises(BadArgument, match=f"{field}=21 is not allowed; {field} must be at most .* {dim}"):
            Turned((make(name, named={field: 21}),), make("int4")).check(GEOMETRY)
    assert make(name, named={"rank": 7}).shape(replace(GEOMETRY, key_dim=7)).key_dim == 7


def test_what_assets_must_have_been_made_for() -> None:
    assert make("svd").asked_for == {"side": "post"} and make("svd").side == "post"
    assert make("svd", named={"side": "pre"}).asked_for == {"side": "pre"}
    assert make("lean").asked_for == {"solver": "closed"}, "one serves all ranks"
    iterated = make("lean", named={"solver": "frank_wolfe", "rank": 7})
    assert iterated.asked_for == {"solver": "frank_wolfe", "rank": "7"}
