"""round_trip: object, text and JSON say the same, and make the same cache; a file gives back the cache that
went in.
"""

from __future__ import annotations

import json

import keyvalise
from keyvalise import KVCache, Recipe
from keyvalise.host import saving
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_same
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


def test_a_file_gives_back_the_cache_that_went_in(case: Case) -> None:
    model, calls = case.model, drive.text(86, 57).calls(63, 1, 1, 1, 9, 1, 1, 1)
    never = drive.run(model, KVCache(model, case.text), calls)
    cache, n = KVCache(model, case.text), 0
    for upto in (1, 5):
        drive.run(model, cache, calls[n:upto])
        again = saving.loads(saving.dumps(cache), model)
        assert again.recipe == cache.recipe and again.seen == cache.seen
        assert again.nbytes == cache.nbytes
        assert drive.held(again) == drive.held(cache)
        rest = drive.run(model, again, calls[upto:])
        for i, (got, want) in enumerate(zip(rest.logits, never.logits[upto:], strict=True)):
            assert_same(got, want, what=f"saved after {upto} calls, call {upto + i}")
        assert rest.kept == never.kept[upto:]
        n = upto


def test_every_name_of_the_catalogue_is_in_the_table() -> None:
    from tests.support.cases import CATALOGUE

    assert [case.name for case in CATALOGUE] == list(keyvalise.recipes())
