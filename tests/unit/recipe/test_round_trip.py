"""A recipe survives its text and its JSON."""

from __future__ import annotations

import json

from hypothesis import given, settings

from keyvalise.recipe.object import Recipe
from tests.unit.recipe.strategies import recipes


@settings(max_examples=150, deadline=None)
@given(recipe=recipes())
def test_text(recipe: Recipe) -> None:
    text = str(recipe)
    again = Recipe.parse(text)
    assert again == recipe
    assert str(again) == text
    assert hash(again) == hash(recipe)


@settings(max_examples=150, deadline=None)
@given(recipe=recipes())
def test_json(recipe: Recipe) -> None:
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert Recipe.from_json(json.loads(text)) == recipe
