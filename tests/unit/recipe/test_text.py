"""The grammar: what names expand to, what replaces what, and what is said about a mistake."""

from __future__ import annotations

import pytest

from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import BadArgument, RecipeError, UnknownName

SNAPKV = "at prompt: window(32) > mean > pool(5) > drop(recent=32)"
H2O = "at prompt: mass > mean > drop(recent=50%)"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("snapkv", f"{SNAPKV} @ 25%"),
        ("snapkv @ 10%", f"{SNAPKV} @ 10%"),
        ("  snapkv@10 %", f"{SNAPKV} @ 10%"),
        ("snapkv(window=64) @ 128 tok", f"{SNAPKV.replace('32', '64')} @ 128tok"),
        ("snapkv(recent=8)", f"{SNAPKV.replace('recent=32', 'recent=8')} @ 25%"),
        ("snapkv(pool=7) > adaptive > int4 @ 10% on 2..",
         "at prompt: window(32) > mean > pool(7) > adaptive > drop(recent=32) @ 10% on 2..; int4 on 2.."),
        ("snapkv > pool(3)", f"{SNAPKV.replace('pool(5)', 'pool(5) > pool(3)')} @ 25%"),
        ("snapkv > keydiff > drop(sinks=2)", "at prompt: keydiff > mean > pool(5) > drop(sinks=2) @ 25%"),
        ("snapkv(every=64) @ 512MiB", f"{SNAPKV} @ 512MiB; every 64 in decode: same"),
        ("snapkv; int4 @ 10%", f"{SNAPKV} @ 10%; int4"),
        ("h2o @ 10%", f"{H2O} @ 10% of prompt; every 1 in decode: same"),
        ("h2o @ 64tok", f"{H2O} @ 64tok; every 1 in decode: same"),
        ("h2o > keydiff", H2O.replace("mass", "keydiff") + " @ 20% of prompt; every 1 in decode: same"),
        ("h2o(every=16)", f"{H2O} @ 20% of prompt; every 16 in decode: same"),
        ("streaming(every=16, sinks=8)", "at prompt, every 16 in decode: recency > drop(sinks=8) @ 25%"),
        ("streaming(positions=slot)",
         "at prompt, every 1 in decode: recency > drop(sinks=4, positions=slot) @ 25%"),
        ("random", "at prompt: random > drop @ 25%"),
        ("window > mean @ 3%", "at prompt: window(32) > mean > drop @ 3%"),
        ("drop(recent=8) > mass(average=true) @ 3%", "at prompt: mass(average=true) > drop(recent=8) @ 3%"),
        ("every 64: knorm @ 3%; at prompt: same", "every 64: knorm > drop @ 3%; at prompt: same"),
        ("every 64: knorm @ 3%; at prompt: same @ 5% on ..2",
         "every 64: knorm > drop @ 3%; at prompt: knorm > drop @ 5% on ..2"),
        ("full", "full"),
        ("full > int8 on ::3", "int8 on ::3"),
        ("full > random @ 10%", "at prompt: random > drop @ 10%"),
        ("int4 @ 40%", "int4 @ 40%"),
        ("int4(group=16, residual=0)", "int4(group=16, residual=0)"),
        ("kivi(bits=4)", "kivi(4)"),
        ("kivi", "kivi(2)"),
        ("pool(7, max) > window > adaptive(floor=1) @ 9%",
         "at prompt: window(32) > pool(7, max) > adaptive(floor=1) > drop @ 9%"),
    ],
)  # fmt: skip
def test_normal_form(text: str, normal: str) -> None:
    recipe = Recipe.parse(text)
    assert str(recipe) == normal
    assert Recipe.parse(normal) == recipe


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", RecipeError, "character 1 (the end): a recipe has at least one word"),
        (
            "snapk @ 10%",
            UnknownName,
            "character 1 ('snapk'): unknown recipe or part 'snapk'; nearest: snapkv",
        ),
        ("at prompt: windw", UnknownName, "character 12 ('windw'): unknown part 'windw'; nearest: window"),
        (
            "snapkv > adaptve",
            UnknownName,
            "character 10 ('adaptve'): unknown part 'adaptve'; nearest: adaptive",
        ),
        ("snapkv(windo=3)", UnknownName, "unknown argument of snapkv 'windo'; nearest: window"),
        ("window(m=3) @ 1%", UnknownName, "unknown argument of window 'm'; nearest: n"),
        ("int4(bits=2)", UnknownName, "unknown argument of int4 'bits'"),
        ("snapkv(64)", RecipeError, "arguments of the recipe snapkv are named (window, pool, sinks, recent)"),
        ("window(1, 2) @ 1%", RecipeError, "window takes 1 arguments (n), got 2"),
        ("window(1, n=2) @ 1%", RecipeError, "window is given n twice"),
        ("window(n=1, 2) @ 1%", RecipeError, "character 13 ('2'): arguments without a name come first"),
        ("drop(sinks=1, 2)", RecipeError, "arguments without a name come first"),
        ("drop(sinks=1, sinks=2)", RecipeError, "character 15 ('sinks'): an argument is a name"),
        ("snapkv(window=0)", BadArgument, "window: n=0 is not allowed; n must be a whole number at least 1"),
        (
            "int4(group=0)",
            BadArgument,
            "int4: group=0 is not allowed; group must be a whole number at least 1",
        ),
        (
            "layer(median) > knorm @ 1%",
            BadArgument,
            "layer: how='median' is not allowed; how must be one of mean, max",
        ),
        ("snapkv > > int4", RecipeError, "character 10 ('>'): expected the name of a recipe or part"),
        ("snapkv >", RecipeError, "character 9 (the end): expected the name"),
        ("snapkv int4", RecipeError, "character 8 ('int4'): expected '>', '@', 'on' or ';'"),
        ("snapkv @ 10% ; ", RecipeError, "character 16 (the end): expected the name"),
        ("snapkv $ 3", RecipeError, "character 8 ('$'): expected"),
        ("snapkv(window=", RecipeError, "character 15 (the end): expected a number, a percentage or a word"),
        ("snapkv(window=3", RecipeError, "character 16 (the end): expected ','"),
        ("snapkv @", RecipeError, "character 9 (the end): expected a budget"),
        ("snapkv @ 10", RecipeError, "character 10 ('10'): cannot read the budget '10'"),
        ("snapkv @ 120%", RecipeError, "a budget of 120% is more than the full cache"),
        ("snapkv @ 0%", RecipeError, "a budget must be positive"),
        ("snapkv @ 10% on x", RecipeError, "character 17 ('x'): cannot read the layers 'x'"),
        ("snapkv(every=0)", RecipeError, "every must be a whole number at least 1"),
        ("full(every=4)", RecipeError, "every needs a stage to repeat"),
        ("every 0: knorm", RecipeError, "character 7 ('0'): every must be a whole number at least 1"),
        ("every 4 in sleep: knorm", RecipeError, "character 12 ('sleep'): expected 'decode'"),
        ("at prompt, knorm", RecipeError, "character 12 ('knorm'): expected 'at prompt' or 'every n'"),
        ("at prompt knorm", RecipeError, "character 11 ('knorm'): expected ','"),
        ("at prompt: snapkv", RecipeError, "snapkv is a recipe with stages of its own; it stands first"),
        ("knorm; snapkv", RecipeError, "snapkv is a recipe with stages of its own; it stands first"),
        ("at prompt: int4", RecipeError, "a code has no schedule"),
        ("same", RecipeError, "character 1 ('same'): there is no stage before this one to repeat"),
        ("knorm; same", RecipeError, "character 8 ('same'): say when"),
        (
            "mean > drop @ 3%",
            RecipeError,
            "the stage 'mean, drop' has no score; it needs one of evaluators, expected",
        ),
        (
            "window > mass @ 3%",
            RecipeError,
            "character 10 ('mass'): this stage has two parts of the room 'score'",
        ),
        ("at prompt: knorm @ 3%; int4 @ 4%", RecipeError, "this recipe has a budget already"),
    ],
)
def test_mistakes_name_the_place(text: str, error: type[RecipeError], message: str) -> None:
    with pytest.raises(error) as caught:
        Recipe.parse(text)
    assert message in str(caught.value)
    assert repr(text) in str(caught.value)


def test_only_text_is_parsed() -> None:
    with pytest.raises(RecipeError, match="a recipe is written as text, got int"):
        Recipe.parse(3)  # type: ignore[arg-type]


def test_the_name_is_remembered_and_counts_for_nothing() -> None:
    recipe = Recipe.parse("snapkv @ 10%")
    assert recipe.name == "snapkv" and Recipe.parse(str(recipe)).name is None
    assert recipe == Recipe.parse(str(recipe))


def test_nearest_names_are_carried() -> None:
    with pytest.raises(UnknownName) as caught:
        Recipe.parse("streamin")
    assert caught.value.nearest[0] == "streaming" and len(caught.value.nearest) == 3


def test_positions_and_what_needs_the_rotation() -> None:
    assert Recipe.parse("streaming").positions == "absolute"
    assert Recipe.parse("streaming(positions=slot)").positions == "slot"
    assert not Recipe.parse("snapkv > int4").needs_rope
    assert Recipe.parse("expected").needs_rope and Recipe.parse("streaming(positions=slot)").needs_rope
