"""Every published system: normal form, arguments, schedules, and what it protects."""

from __future__ import annotations

import pytest
import torch

from keyvalise.recipe import catalogue, words
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import HOST_GIVES, TAPS
from keyvalise.types.quantity import Share
from keyvalise.types.when import AtPrompt, Every

GEOMETRY = Geometry(4, 8, 4, 32, 32, torch.bfloat16, 32**-0.5)
PROTECTED = {
    "streaming": (4, 0),
    "h2o": (0, Share(50)),
    "observed": (0, 0),
    "snapkv": (0, 32),
    "tova": (0, 0),
    "knorm": (0, 0),
    "keydiff": (0, 0),
    "expected": (4, 0),
    "random": (0, 0),
    "weighted_random": (0, 0),
    "pyramidkv": (0, 32),
    "adakv": (0, 32),
    "headkv": (0, 8),
    "headkv_r2": (0, 8),
    "compresskv": (0, 8),
    "prefixkv": (1, 1),
    "duo": (64, 256),
    "rlkv": (16, 64),
    "rlkv_surrogate": (16, 64),
    "razor": (4, Share(62.5)),
    "vatp": (20, Share(50)),
    "caote": (0, 32),
    "criticalkv": (0, 32),
    "keyformer": (0, Share(30)),
    "fastgen": (0, 0),
    "plphp": (0, 16),
    "kvcrush": (0, 32),
    "balancekv": (32, 32),
    "ems": (0, 0),
    "elastic": (1, 1),
    "cam": (0, Share(50)),
}
STEADY = (
    "streaming",
    "h2o",
    "tova",
    "prefixkv",
    "duo",
    "rlkv",
    "rlkv_surrogate",
    "razor",
    "vatp",
    "caote",
    "keyformer",
    "fastgen",
    "elastic",
    "cam",
)
VALUES = {
    "louiskv.tau": 0.3,
    "sentencekv.kernel": 9,
    "sentencekv.most": 5,
    "map": "raw",
    "profile": "mine",
    "head": "mine",
    "ranks": "mine",
    "temperature": 2.0,
    "reduce": "max",
    "full": 0.5,
    "most": 2.0,
    "bits": 4,
    "group": 16,
    "residual": 9,
    "positions": "slot",
    "floor": 0.5,
    "pool": 9,
    "beta": 7.0,
    "p": 2,
    "centre": "mean",
    "eps": 0.5,
    "share": 0.25,
    "noise": "none",
    "threshold": 0.5,
    "classes": "mine",
    "only": "document",
    "rate": 0.5,
    "step": 0.125,
    "gamma_norm": True,
    "tau_init": 2.0,
    "tau_delta": 0.5,
    "caote.heads": "reduced",
    "criticalkv.heads": "product",
    "kvcrush.share": 0.5,
    "anchor": "mean",
    "weight": "mass",
    "ems.weight": "count",
    "zero": 1.5,
    "code": "int8",
    "balance": False,
    "norm": True,
    "side": "post",
    "lowrank.side": "pre",
    "index": "resbit",
    "codebook": "mine",
    "basis": "mine",
    "projections": "mine",
    "solver": "frank_wolfe",
    "second": 4,
    "hqq.bits": 3,
    "nsnquant.bits": 1,
    "commvq.bits": 1,
    "first": 3,
    "predictors": "mine",
}


@pytest.mark.parametrize("name", catalogue.recipes())
def test_it_is_built_and_survives_text_and_json(name: str) -> None:
    recipe = Recipe.parse(name)
    river = compose(
        recipe, GEOMETRY, HOST_GIVES | TAPS | {"rope", "rope:static", "weight:o_proj", "weight:unembed"}
    )
    assert recipe.name == name and river.at(3).angle == "absolute"
    assert Recipe.parse(str(recipe)) == Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", catalogue.recipes())
def test_its_text_is_the_normal_form_up_to_defaults_it_wants_seen(name: str) -> None:
    published = catalogue.recipe(name)
    text = str(Recipe.parse(name))
    assert text == (published.text or "full").replace("(floor=0.2)", "")


@pytest.mark.parametrize("name", catalogue.recipes())
def test_every_argument_changes_what_it_says(name: str) -> None:
    for argument, targets in catalogue.recipe(name).arguments.items():
        value = VALUES.get(f"{name}.{argument}", VALUES.get(argument, 7))
        recipe = Recipe.parse(f"{name}({argument}={str(value).lower()})")
        assert recipe != Recipe.parse(name)
        for target in targets:
            part, _, field = target.partition(".")
            found = [p for p in recipe.parts if p.name == part]
            own = {words.word(f): f.name for p in found for f in words.fields(p)}
            assert found and all(getattr(p, own[field]) == value for p in found)


@pytest.mark.parametrize(("name", "protected"), PROTECTED.items())
def test_it_protects_what_its_paper_protects(name: str, protected: tuple[object, object]) -> None:
    for stage in Recipe.parse(name).stages:
        assert (stage.act.sinks, stage.act.recent) == protected


@pytest.mark.parametrize("name", PROTECTED)
def test_schedules_are_as_published(name: str) -> None:
    whens = {when for stage in Recipe.parse(name).stages for when in stage.when}
    assert whens == ({AtPrompt(), Every(1, "decode")} if name in STEADY else {AtPrompt()})


@pytest.mark.parametrize("name", PROTECTED)
def test_every_adds_a_stage_or_sets_the_rhythm(name: str) -> None:
    recipe = Recipe.parse(f"{name}(every=16) @ 64tok")
    whens = {when for stage in recipe.stages for when in stage.when}
    assert whens == {AtPrompt(), Every(16, "decode")}
    assert len({stage.budget for stage in recipe.stages}) == 1
    assert {stage.parts for stage in recipe.stages} == {stage.parts for stage in Recipe.parse(name).stages}


def test_one_argument_may_set_several_parts() -> None:
    recipe = Recipe.parse("snapkv(window=64)")
    assert recipe.stages[0].score.n == 64 and recipe.stages[0].act.recent == 64  # type: ignore[attr-defined]


def test_relations_between_recipes() -> None:
    assert Recipe.parse("pyramidkv > uniform") == Recipe.parse("snapkv")
    assert Recipe.parse("weighted_random > top") == Recipe.parse("random")
    assert Recipe.parse("h2o @ 20%") == Recipe.parse("h2o")
