"""recipes and cite."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import keyvalise


def test_the_list_is_the_catalogue(run):
    assert run("recipes", "--quiet").out.split() == list(keyvalise.recipes())
    listed = run("recipes", "list", "--json").json
    assert [one["name"] for one in listed] == list(keyvalise.recipes())
    assert all(one["about"].endswith((".", "them")) or one["about"] for one in listed)
    table = run("recipes").out
    assert table == run("recipes", "list").out
    for name in keyvalise.recipes():
        assert f"\n{name} " in "\n" + table


@pytest.mark.parametrize("name", keyvalise.recipes())
def test_every_recipe_is_explained(run, name):
    found = run("recipes", "show", name, "--json")
    assert found.code == 0 and found.err == ""
    data = found.json
    assert data["essay"] and data["laws"]
    for part in keyvalise.Recipe.parse(name).parts:
        assert part.name in data["parts"]
    slope, full = data["bytes_per_token"]
    assert full == 4 * 4 * 2 * 32 * 2
    # What stands for entries that are not read comes on top of them.
    recipe, (model, _) = keyvalise.Recipe.parse(name), keyvalise.reference()
    held = replace(recipe, reader=None).bytes_per_token(model.config, torch.bfloat16)
    assert 0 <= held <= full
    assert slope == held if recipe.reader is None else slope >= held


def test_any_text_is_explained(run):
    text = run("recipes", "show", "snapkv(window=64) > int4 @ 10%").out
    assert "window(n=64)" in text and "encode    int4" in text
    assert "bytes    205 for every further token" in text and "full cache: 2,048" in text
    assert "@misc{li2024snapkv" in text and "The prompt's last queries vote" in text
    assert run("recipes", "show", "snapkv", "--dtype", "float32").out.count("full cache: 4,096") == 1


def test_bibtex_of_exactly_what_is_used(run):
    assert run("cite", "snapkv").out == keyvalise.Recipe.parse("snapkv").cite().strip() + "\n"
    both = run("cite", "adakv > kivi @ 10%", "--json").json
    assert both["bibtex"].count("@misc{") == 3
    nothing = run("cite", "full")
    assert (nothing.code, nothing.out) == (0, "") and "nothing published" in nothing.err
