"""One rule for all windows: at most a quarter of what the budget holds raw."""

from __future__ import annotations

import dataclasses

import pytest

from keyvalise import Recipe
from keyvalise.recipe import catalogue, windows
from keyvalise.types.quantity import Budget


@pytest.mark.parametrize(
    ("budget", "tokens", "most"),
    [("10%", 1000, 25), ("2%", 130, 1), ("30tok", 1000, 7), ("1tok", 9, 1), ("1MiB", 70, 70)],
)
def test_a_window_takes_a_quarter_of_the_raw_entries(budget: str, tokens: int, most: int) -> None:
    assert windows.most(Budget.parse(budget), tokens) == most


@pytest.mark.parametrize("name", [name for name in catalogue.recipes() if Recipe.parse(name).stages])
def test_no_recipe_keeps_a_larger_one(name: str) -> None:
    recipe = windows.fitted(Recipe.parse(f"{name} @ 5%"), 1000)
    found = [
        getattr(part, field.name)
        for part in recipe.parts
        for field in dataclasses.fields(part)
        if field.metadata.get("is_window")
    ]
    assert all(amount <= 12 for amount in found if isinstance(amount, int))


def test_what_fits_stays_as_published() -> None:
    recipe = Recipe.parse("snapkv @ 50%")
    assert windows.fitted(recipe, 1000) == recipe
    assert str(windows.fitted(Recipe.parse("h2o @ 2%"), 100)).count("50%") == 1
