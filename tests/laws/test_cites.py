"""cites: a recipe cites exactly the papers of the ideas it uses, as BibTeX."""

from __future__ import annotations

import re

from keyvalise import Recipe
from keyvalise.recipe import catalogue
from tests.support.cases import CATALOGUE, Case

ENTRY = re.compile(r"^@\w+\{(?P<key>[a-z0-9]+),$", re.MULTILINE)


def keys(recipe: Recipe) -> list[str]:
    return [match["key"] for match in ENTRY.finditer(recipe.cite())]


def test_a_recipe_cites_its_own_papers(entry: Case) -> None:
    papers = catalogue.recipe(entry.name).papers
    found = keys(entry.recipe)
    assert set(papers) <= set(found)
    assert len(found) == len(set(found))
    text = entry.recipe.cite()
    assert text.count("{") == text.count("}")
    for field in ("title", "author", "year"):
        assert text.count(f" {field} =") == len(found), field


def test_a_paper_is_found_however_the_recipe_was_written(entry: Case) -> None:
    papers = set(catalogue.recipe(entry.name).papers)
    assert papers <= set(keys(Recipe.parse(str(entry.recipe)))), "parts alone must cite as much as the name"


def test_what_is_put_in_place_of_a_part_is_cited_too() -> None:
    both = set(keys(Recipe.parse("snapkv > adaptive > kivi @ 30%")))
    for name in ("snapkv", "adakv", "kivi"):
        assert set(catalogue.recipe(name).papers) <= both
    assert keys(Recipe.parse("full")) == keys(Recipe.parse("random @ 9tok")) == []


def test_every_paper_is_some_recipes() -> None:
    assert {key for case in CATALOGUE for key in keys(case.recipe)} == {
        key for case in CATALOGUE for key in catalogue.recipe(case.name).papers
    }
