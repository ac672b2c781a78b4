"""JSON: plain data with every argument, and clear words about what is none."""

from __future__ import annotations

import json

import pytest

from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import BadArgument, RecipeError, UnknownName


def data(text: str = "snapkv > int4 @ 10%") -> dict:
    return json.loads(Recipe.parse(text).to_json())


def test_every_argument_is_written_out() -> None:
    found = data()
    assert found["name"] == "snapkv"
    assert {"part": "pool", "size": 5, "how": "mean"} in found["stages"][0]["parts"]
    assert {"part": "uniform"} in found["stages"][0]["parts"]
    assert found["code"] == {"part": "int4", "group": 64, "residual": 32}
    assert data("h2o")["stages"][1]["when"] == [{"every": 1, "in": "decode"}]
    assert data("h2o")["stages"][0]["parts"][-1]["recent"] == "50%"


def test_the_name_comes_back() -> None:
    assert Recipe.from_json(data()).name == "snapkv"
    assert Recipe.from_json({"stages": []}) == Recipe()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda d: "{", RecipeError, "this is no JSON"),
        (lambda d: [], RecipeError, "an object with a list under 'stages'"),
        (lambda d: d | {"stages": 3}, RecipeError, "an object with a list under 'stages'"),
        (lambda d: d | {"readers": {}}, RecipeError, "no field 'readers'"),
        (lambda d: d | {"code": {"part": "int5"}}, UnknownName, "unknown part 'int5'"),
        (lambda d: d | {"code": {"part": "drop"}}, RecipeError, "the part drop has no place here"),
        (lambda d: d | {"code": {"part": "int4", "bits": 2}}, UnknownName, "unknown argument of int4 'bits'"),
        (lambda d: d | {"code": {"part": "int4", "residual": -1}}, BadArgument, "int4: residual=-1"),
        (lambda d: d | {"code": {"part": "int2", "group": None}}, BadArgument, "int2: group=None"),
        (lambda d: d | {"code": {"part": "int4", "residual": "50%"}}, BadArgument, "int4: residual='50%'"),
        (lambda d: d | {"code": 3}, RecipeError, "an object with its name under 'part', got 3"),
        (lambda d: d | {"budget": 10}, RecipeError, "expected a text, got 10"),
        (lambda d: d | {"stages": [3]}, RecipeError, "an object with lists under 'when' and 'parts', got 3"),
        (lambda d: d["stages"][0]["parts"].pop(0) and d, RecipeError, "score is missing"),
        (lambda d: d["stages"][0].update(when=[{"at": "dawn"}]) or d, RecipeError, "a schedule in JSON is"),
        (lambda d: d["stages"][0].update(when=[{"every": 0}]) or d, RecipeError, "a schedule in JSON is"),
        (
            lambda d: d["stages"][0]["parts"].append({"part": "mass"}) or d,
            RecipeError,
            "mass has no place here",
        ),
    ],
)
def test_mistakes(change, error: type[RecipeError], message: str) -> None:
    with pytest.raises(error) as caught:
        Recipe.from_json(change(data()))
    assert message in str(caught.value)
