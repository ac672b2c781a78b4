"""A recipe survives its text and its JSON."""

from __future__ import annotations

import json

from hypothesis import given, settings

from keyvalise.recipe.object import Recipe
from tests.unit.recipe.strategies import recipes


@settings(max_examples=60, deadline=None)
@given(recipe=recipes())
def test_text_and_json(recipe: Recipe) -> None:
    text = str(recipe)
    again = Recipe.parse(text)
    assert again == recipe and hash(again) == hash(recipe)
    assert str(again) == text
    data = recipe.to_json()
    assert Recipe.from_json(data) == Recipe.from_json(json.loads(data)) == recipe
