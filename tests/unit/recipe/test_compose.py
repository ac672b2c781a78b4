"""What fits together becomes a river; what does not is said in one sentence when the recipe is built."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from keyvalise.recipe import catalogue
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.river import River
from keyvalise.types.code import Chained
from keyvalise.types.errors import BadArgument, ImpossibleBudget, RecipeError, UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import HOST_GIVES, TAPS

GEOMETRY = Geometry(4, 8, 4, 32, 32, torch.bfloat16, 32**-0.5)
STATIC = frozenset({"rope", "rope:static"}) | TAPS | {"weight:o_proj", "weight:unembed"}


def build(text: str, gives: frozenset[str] = HOST_GIVES | STATIC) -> River:
    return compose(Recipe.parse(text), GEOMETRY, gives)


@pytest.mark.parametrize("encode", [None, *catalogue.parts("encode")])
@pytest.mark.parametrize("allocate", catalogue.parts("allocate"))
@pytest.mark.parametrize("score", catalogue.parts("score"))
def test_every_score_with_every_allocator_with_every_code(
    score: str, allocate: str, encode: str | None
) -> None:
    text = f"at prompt: {score} > {allocate} > drop(recent=7) @ 10%" + (f"; {encode}" if encode else "")
    is_chained = encode is not None and isinstance(catalogue.part(encode)(), Chained)
    if is_chained and (score, allocate) != ("recency", "uniform"):
        with pytest.raises(UnmetNeed, match="needs sets:model"):
            build(text)
        return
    own = build(text).at(3)
    plan = own.plan(own.stages[0], 997, 997)
    assert 0 < plan.tokens < 997
    assert (own.code is not None) == (encode is not None)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("kivi @ 10%", ImpossibleBudget, "kivi needs at least 18.8% of the full cache, got 10%"),
        ("int4 @ 31%", ImpossibleBudget, "int4 needs at least 31.3% of the full cache, got 31%"),
        ("int4 @ 128tok", ImpossibleBudget, "int4 alone drops no token, so 128tok cannot hold"),
        ("int4 @ 50% of prompt", ImpossibleBudget, "int4 alone drops no token, so 50% of prompt cannot hold"),
        ("full @ 50%", ImpossibleBudget, "keeps everything raw needs 100%, got 50%"),
        ("full @ 1GiB", ImpossibleBudget, "keeps everything raw needs 100%, got 1GiB"),
        ("window > drop", ImpossibleBudget, "has no budget; write one behind it, such as @ 25%"),
        ("snapkv @ 31tok", ImpossibleBudget, "(recent=32) protects 32 tokens"),
        ("h2o(sinks=4) @ 7tok", ImpossibleBudget, "(sinks=4, recent=50%) protects 8 tokens, 7tok are"),
        ("snapkv @ 66KiB > int4", RecipeError, "cannot read the budget"),
        ("snapkv @ 65KiB", ImpossibleBudget, "protects 32 tokens, which take 67584B; the budget is 65KiB"),
        ("random @ 1KiB", ImpossibleBudget, "one token per head is the least, which take 2112B"),
        ("random @ 0.5tok", ImpossibleBudget, "0.5tok is no whole number of tokens; the least is 1tok"),
        ("h2o(recent=60%, sinks=50%)", ImpossibleBudget, "protects 110% of what it keeps; at most 100%"),
        ("h2o(recent=100%, sinks=4) @ 9tok", ImpossibleBudget, "protects more than it keeps, whatever"),
        ("knorm on 4..", RecipeError, "'on 4..' names no layer; the model has layers 0 to 3"),
        ("int8 on 9", RecipeError, "'on 9' names no layer"),
        ("int4(group=40)", BadArgument, "group=40 is not allowed; group must be at most the head size 32"),
        ("streaming(positions=slot) > int4", UnmetNeed, "needs raw keys, and int4 writes codes"),
        ("streaming(positions=slot) > adaptive", UnmetNeed, "entries in every head, and adaptive"),
        ("at prompt: knorm > drop(positions=slot) @ 9%; every 4: knorm @ 9%", RecipeError, "a whole recipe"),
        ("knorm > output_error @ 9%", UnmetNeed, "output_error needs scores:positive"),
        ("tova > adaptive @ 9%", UnmetNeed, "when the stage acts again, layer needs sets:layer"),
        ("knorm @ 9%; every 4: window > layer @ 9%", UnmetNeed,
         "layer needs sets:layer, which neither the model nor an earlier part gives; the nearest part that"),
    ],
)  # fmt: skip
def test_what_does_not_fit(text: str, error: type[RecipeError], message: str) -> None:
    with pytest.raises(error) as caught:
        build(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["snapkv @ 32tok", "snapkv @ 66KiB", "h2o(sinks=4) @ 8tok", "h2o(recent=100%) @ 9tok", "random @ 1tok",
     "streaming(positions=slot)", "tova", "full @ 100%", "int4 @ 32%", "int4(group=32)", "int4", "kivi @ 19%",
     "every 64: window > layer > drop @ 9%; every 4: same"],
)  # fmt: skip
def test_what_just_fits(text: str) -> None:
    assert build(text).at(0) is not None


@pytest.mark.parametrize("text", ["expected", "streaming(positions=slot)"])
def test_a_rotation_that_changes_with_length_is_refused(text: str) -> None:
    with pytest.raises(UnmetNeed, match="rope:static"):
        build(text, HOST_GIVES | {"rope"})


def test_arguments_are_checked_however_a_part_was_made() -> None:
    recipe = Recipe.parse("snapkv")
    stage = recipe.stages[0]
    wrong = catalogue.part("window")(n=0)
    broken = type(stage)(
        stage.when, wrong, stage.rescorers, stage.allocate, stage.select, stage.act, stage.budget
    )
    with pytest.raises(BadArgument, match="window: n=0 is not allowed"):
        compose(Recipe((broken,)), GEOMETRY, HOST_GIVES)


class Fussy(catalogue.part("mean")):  # type: ignore[misc]
    """A rescorer that wants scores to sum to 1."""

    needs: ClassVar[frozenset[str]] = frozenset({"scores:mass"})


def with_fussy(text: str) -> Recipe:
    recipe = Recipe.parse(text)
    stage = recipe.stages[0]
    rescorers = (*stage.rescorers, Fussy())
    again = type(stage)(
        stage.when, stage.score, rescorers, stage.allocate, stage.select, stage.act, stage.budget
    )
    return Recipe((again,))


def test_needs_are_met_in_river_order() -> None:
    compose(with_fussy("window @ 9%"), GEOMETRY, HOST_GIVES)
    for text in ("knorm @ 9%", "window > pool @ 9%"):
        with pytest.raises(
            UnmetNeed, match=r"mean needs scores:mass.* the nearest part that gives it is window"
        ):
            compose(with_fussy(text), GEOMETRY, HOST_GIVES)


def test_layers_outside_every_range_keep_everything() -> None:
    river = build("at prompt: window > drop @ 9% on 2..; int4 on 3")
    assert [len(river.at(layer).stages) for layer in range(4)] == [0, 0, 1, 1]
    assert [river.at(layer).code is None for layer in range(4)] == [True, True, True, False]
    assert river.at(0).always == river.at(0).in_prompt == ()
    assert river.at(0).residual(77, 77) == 77


def test_observers_outlive_the_prompt_only_for_stages_that_decode() -> None:
    river = build("snapkv(every=64)").at(0)
    assert len(river.always) == 1 and river.in_prompt == ()
    mixed = build("at prompt: window > drop @ 9%; every 4 in decode: window(8) > drop @ 9%").at(0)
    assert [o.n for o in mixed.always] == [8] and [o.n for o in mixed.in_prompt] == [32]
    prompt = build("every 64 in prompt: mass @ 9%").at(0)
    assert prompt.always == () and len(prompt.in_prompt) == 1


def test_has_prompt_stages_and_angle() -> None:
    assert build("snapkv").at(0).has_prompt_stages
    assert not build("every 64: knorm @ 9%").at(0).has_prompt_stages
    assert (
        build("streaming(positions=slot)").at(0).angle == "slot" and build("int4").at(0).angle == "absolute"
    )


def test_a_stage_of_another_layer_has_no_plan() -> None:
    river = build("knorm @ 9% on ..2; keydiff @ 9% on 2..".replace("; keydiff", "; at prompt: keydiff"))
    with pytest.raises(ValueError, match="another layer"):
        river.at(0).plan(river.at(3).stages[0], 7, 7)
