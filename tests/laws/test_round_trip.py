"""round_trip: object, text and JSON say the same, and make the same cache."""

from __future__ import annotations

import json

import keyvalise
from keyvalise import KVCache, Recipe
from tests.support import drive
from tests.support.cases import Case
from tests.support.models import tiny


def test_text_and_json_come_back(case: Case) -> None:
    recipe = case.recipe
    assert Recipe.parse(str(recipe)) == recipe
    assert str(Recipe.parse(str(recipe))) == str(recipe)
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(json.loads(recipe.to_json())) == recipe
    assert str(Recipe.from_json(recipe.to_json())) == str(recipe)


def test_all_three_make_the_same_cache(case: Case) -> None:
    model, calls = tiny("llama"), drive.text(64).calls(62, 1, 1)
    named = drive.run(model, KVCache(model, case.text), calls)
    for recipe in (str(case.recipe), case.recipe, Recipe.from_json(case.recipe.to_json())):
        same = drive.run(model, KVCache(model, recipe), calls)
        assert same.kept == named.kept
        assert same.cache.nbytes == named.cache.nbytes
        assert same.cache.recipe == case.recipe


def test_every_name_of_the_catalogue_is_in_the_table() -> None:
    from tests.support.cases import CATALOGUE

    assert [case.name for case in CATALOGUE] == list(keyvalise.recipes())
