"""A recipe in words."""

from __future__ import annotations

import pytest
import torch

from keyvalise.recipe import catalogue, explain
from keyvalise.recipe.object import Recipe
from keyvalise.types.geometry import Geometry

GEOMETRY = Geometry(4, 8, 4, 32, 32, torch.bfloat16, 32**-0.5)


def test_rows_name_every_part_with_every_argument() -> None:
    rows = explain.rows(Recipe.parse("snapkv > int4(group=16) @ 10%"))
    assert [row.name for row in rows] == ["window", "mean", "pool", "uniform", "top", "drop", "int4"]
    assert [row.room for row in rows] == [
        "score",
        "rescore",
        "rescore",
        "allocate",
        "select",
        "act",
        "encode",
    ]
    assert rows[0].arguments == "n=32" and rows[-1].arguments == "group=16, residual=32"
    assert rows[0].stage == "at prompt" and rows[0].needs == ("keys", "queries:piece")
    assert "2404.14469" in rows[0].paper
    assert all(row.does.endswith(".") for row in rows)


def test_facts() -> None:
    facts = explain.facts(Recipe.parse("int4"), GEOMETRY)
    assert facts["bytes per token"] == "640 of 2048 (31.2%)"
    assert facts["needs"] == "keys, values" and facts["cites"] == "nothing"
    assert explain.facts(Recipe.parse("full"), GEOMETRY)["needs"] == "nothing"


def test_description_begins_with_the_normal_form() -> None:
    recipe = Recipe.parse("tova")
    lines = recipe.describe().splitlines()
    assert lines[0] == str(recipe) and len(lines) == 1 + 5


@pytest.mark.parametrize("name", catalogue.recipes())
def test_essays_have_the_heads_of_the_template(name: str) -> None:
    essay = explain.essay(name)
    assert essay[""].endswith(".") and essay["Formula"] and essay["Paper"] and essay["Reduces to"]
    assert essay.get("Confidence", "none").split()[0] in ("official", "paper", "reconstruction", "none")


def test_heads_may_share_a_line() -> None:
    found = explain.sections(
        "One sentence.\n\nMore words.\n\nFormula    a\n           b\nPaper      x    Confidence  paper"
    )
    assert found == {
        "": "One sentence.",
        "lead": "More words.",
        "Formula": "a b",
        "Paper": "x",
        "Confidence": "paper",
    }
