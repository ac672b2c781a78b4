"""Citations: exactly what a recipe uses."""

from __future__ import annotations

import re

import pytest

from keyvalise.recipe import bibliography, catalogue, cite
from keyvalise.recipe.object import Recipe


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("full", ""),
        ("random", ""),
        ("int4", ""),
        ("streaming > int4", "xiao2023streaming"),
        ("snapkv @ 10%", "li2024snapkv"),
        ("tova", "oren2024tova"),
        ("h2o", "zhang2023h2o"),
        ("adakv", "li2024snapkv feng2024adakv"),
        ("pyramidkv > kivi", "li2024snapkv cai2024pyramidkv liu2024kivi"),
        ("weighted_random", "han2025balancekv"),
        ("window > drop @ 9%", "li2024snapkv"),
        ("keydiff > adaptive", "park2025keydiff feng2024adakv"),
        ("mass > layer @ 9%", "zhang2023h2o oren2024tova"),
        ("duo", "xiao2023streaming xiao2024duo"),
        ("duo(profile=mine)", "xiao2023streaming xiao2024duo"),
        ("rlkv", "xiao2023streaming du2025rlkv"),
        ("headkv > window(16)", "li2024snapkv fu2024headkv"),
        (
            "snapkv > uniform > keydiff; at prompt: expected @ 9%",
            "li2024snapkv park2025keydiff devoto2025expected",
        ),
    ],
)
def test_keys(text: str, keys: str) -> None:
    recipe = Recipe.parse(text)
    assert " ".join(cite.keys(recipe)) == keys
    assert cite.keys(Recipe.parse(str(recipe))) == cite.keys(recipe)
    assert re.findall(r"@\w+\{(\w+),", recipe.cite()) == keys.split()


@pytest.mark.parametrize("name", catalogue.recipes())
def test_a_recipe_cites_its_own_papers_and_they_stand_in_its_essay(name: str) -> None:
    published = catalogue.recipe(name)
    assert set(published.papers) <= set(cite.keys(Recipe.parse(name)))
    for key in published.papers:
        paper = bibliography.PAPERS[key]
        assert paper.place in published.essay and str(paper.year) in published.essay
        assert paper.authors.split(",")[0] in published.essay


@pytest.mark.parametrize("key", bibliography.PAPERS)
def test_entries_are_balanced_and_complete(key: str) -> None:
    entry, paper = bibliography.entry(key), bibliography.PAPERS[key]
    assert entry.count("{") == entry.count("}")
    assert f"title = {{{paper.title}}}" in entry and f"year = {{{paper.year}}}" in entry
    assert f"eprint = {{{paper.arxiv}}}" in entry or not paper.arxiv
    assert (paper.arxiv or paper.venue) in entry and paper.place
    assert key.startswith(paper.authors.split(",")[0].lower()) and str(paper.year) in key


def test_every_entry_is_cited_by_a_recipe() -> None:
    used = {key for name in catalogue.recipes() for key in catalogue.recipe(name).papers}
    assert used == set(bibliography.PAPERS)
