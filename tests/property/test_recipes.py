"""Recipes put together at random: what is written is read back, what is built keeps its promises, and what
cannot be built says so in one line.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import catalogue
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.river import River
from keyvalise.types.errors import ImpossibleBudget, KeyvaliseError
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import HOST_GIVES, TAPS
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from tests.property.lengths import at_length
from tests.unit.recipe import strategies

GEOMETRY = Geometry(4, 8, 4, 32, 32, torch.bfloat16, 32**-0.5)
ROPE = frozenset({"rope", "rope:static"})
GIVES = [HOST_GIVES | ROPE] * 3 + [HOST_GIVES, HOST_GIVES | {"rope"}, frozenset({"keys", "values"})]

EVERYTHING = HOST_GIVES | TAPS | ROPE | {"weight:o_proj", "weight:unembed", "weight:embed"}

geometries = st.builds(
    lambda layers, group, heads, dims, dtype: Geometry(
        layers, group * heads, heads, *dims, dtype, dims[0] ** -0.5
    ),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([(10, 10), (32, 32), (64, 48), (128, 128)]),
    st.sampled_from([torch.float32, torch.bfloat16]),
)
WORDS = (
    *("at prompt:", "every 7:", "every 64 in decode:", "every 0:", "same", "same:", "at", "every", "in"),
    *(">", ";", "@", "on", "(", ")", ",", "=", ":", "%", "..", "::", "'", "''", "-", "²", "\n", "#", "."),
    *(
        "10%",
        "25% of prompt",
        "37KiB",
        "13tok",
        "0%",
        "1.5GiB",
        "1e9",
        "2..",
        "..2",
        "::2",
        "7",
        "-3",
        "0.25",
    ),
    *(
        "recent=7",
        "sinks=50%",
        "positions=slot",
        "group=8",
        "residual=0",
        "n=true",
        "true",
        "mean",
        "every=3",
    ),
    *catalogue.recipes(),
    *catalogue.parts(),
)
ARGUMENTS = (
    "",
    "(7)",
    "(recent=7)",
    "(every=3)",
    "(window=5)",
    "(group=8)",
    "(sinks=50%)",
    "(mean)",
    "(4, group=8)",
)
call = st.builds(
    "{}{}".format, st.sampled_from([*catalogue.recipes(), *catalogue.parts()]), st.sampled_from(ARGUMENTS)
)
item = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "at prompt: ", "every 7: ", "every 64 in decode, at prompt: "]),
    st.lists(call, min_size=1, max_size=3).map(" > ".join),
    st.sampled_from(["", " @ 10%", " @ 25% of prompt", " @ 37KiB", " @ 13tok"]),
    st.sampled_from(["", "", " on 1..", " on ..2", " on ::0", " on 3..2"]),
)
texts = st.one_of(
    st.lists(st.one_of(item, st.just("every 5 in decode: same")), min_size=1, max_size=3).map("; ".join),
    st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
    st.text(max_size=20),
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 99), st.floats(), st.sampled_from(WORDS), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=3)
    ),
    max_leaves=4,
)
plain_budgets = st.one_of(
    st.builds(Budget, st.floats(0.5, 100), st.just("%"), st.booleans()),
    st.builds(Budget, st.floats(100, 1e7), st.just("B")),
    st.builds(lambda n: Budget(n, "tok"), st.integers(1, 900)),
)


def one_line(error: KeyvaliseError) -> str:
    """What an error says, which is one line for a person."""
    said = str(error)
    assert said.strip() == said and said and said.isprintable(), repr(said)
    return said


def build(recipe: Recipe, geometry: Geometry, gives: frozenset[str]) -> River | None:
    """The river, or None where the recipe is refused in one line."""
    try:
        return compose(recipe, geometry, gives)
    except KeyvaliseError as error:
        one_line(error)
        return None


def afforded(recipe: Recipe, budget: Budget, geometry: Geometry) -> Recipe:
    """The recipe with this budget for every stage, all on layers that the model has."""
    stages = tuple(
        replace(stage, budget=budget, layers=there(stage.layers, geometry)) for stage in recipe.stages
    )
    return replace(recipe, stages=stages, code_layers=there(recipe.code_layers, geometry))


def there(layers: Layers, geometry: Geometry) -> Layers:
    """These layers, or all where the model has none of them."""
    return layers if sizes.n_in(layers, geometry) else ALL_LAYERS


@at_length(40, 1500, recipe=strategies.recipes())
def test_a_recipe_survives_its_text_and_its_json(recipe: Recipe) -> None:
    assert Recipe.parse(str(recipe)) == recipe
    assert Recipe.from_json(recipe.to_json()) == recipe


@at_length(150, 5000, text=texts)
def test_a_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        recipe = Recipe.parse(text)
    except KeyvaliseError as error:
        one_line(error)
        return
    assert Recipe.parse(str(recipe)) == recipe == Recipe.from_json(recipe.to_json())
    assert str(Recipe.parse(str(recipe))) == str(recipe)
    build(recipe, GEOMETRY, HOST_GIVES | ROPE)


@at_length(40, 1000, recipe=strategies.recipes(), data=st.data())
def test_json_is_read_or_refused_in_one_line(recipe: Recipe, data: Any) -> None:
    spoilt = json.loads(replace(recipe, name="knorm").to_json())
    home: Any = spoilt
    while True:
        keys = sorted(home) if isinstance(home, dict) else range(len(home))
        key = data.draw(st.sampled_from(keys))
        inner = home[key]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        home = inner
    home[key] = data.draw(junk)
    for form in (spoilt, json.dumps(spoilt)):
        try:
            again = Recipe.from_json(form)
        except KeyvaliseError as error:
            one_line(error)
        else:
            assert Recipe.from_json(again.to_json()) == again == Recipe.parse(str(again))


@at_length(50, 1500, recipe=strategies.recipes(), geometry=geometries, gives=st.sampled_from(GIVES))
def test_a_recipe_is_built_or_refused_in_one_line(
    recipe: Recipe, geometry: Geometry, gives: frozenset[str]
) -> None:
    river = build(recipe, geometry, gives)
    for layer in range(geometry.n_layers) if river else ():
        own = river.at(layer)
        assert len(own.costs) == len(own.stages) + 1
        assert own.code is None or layer in recipe.code_layers
    assert sizes.slope(recipe, geometry) >= 0 if river else True
    assert one_line(KeyvaliseError(recipe.describe().replace("\n", " ").strip()))


@at_length(
    60,
    1000,
    recipe=strategies.recipes().filter(lambda recipe: recipe.stages),
    geometry=geometries,
    budget=plain_budgets,
    share=st.floats(0.2, 1),
    seen=st.integers(1, 3000),
    ahead=st.integers(0, 2000),
    groups=st.integers(0, 400),
)
def test_a_stage_keeps_what_its_budget_allows_and_never_less_of_a_larger_one(
    recipe: Recipe, geometry: Geometry, budget: Budget, share: float, seen: int, ahead: int, groups: int
) -> None:
    smaller = replace(
        budget, amount=max(1, round(share * budget.amount)) if budget.unit == "tok" else share * budget.amount
    )
    river, tighter = (build(afforded(recipe, b, geometry), geometry, EVERYTHING) for b in (budget, smaller))
    assume(river is not None)
    total = seen + ahead
    for layer in range(geometry.n_layers):
        own = river.at(layer)
        for i, stage in enumerate(own.stages):
            plan, cost = own.plan(stage, seen, total, groups), own.costs[i]
            kept = min(plan.tokens, seen)
            assert kept >= 1
            if tighter is not None:
                lesser = tighter.at(layer)
                assert lesser.plan(lesser.stages[i], seen, total, groups).tokens <= plan.tokens
            if budget.unit != "tok":
                within(cost, stage, plan, (seen, total, groups), kept)


def within(cost: sizes.Cost, stage: Any, plan: sizes.Plan, place: tuple[int, int, int], kept: int) -> None:
    """What is planned is allowed, and one token more is not."""
    seen, total, groups = place
    allowed = sizes.allowed_bytes(stage.budget, stage.layers, cost.geometry, total)

    def spent(tokens: int, residual: int) -> int:
        raw = cost.raw(tokens, residual)
        spent = cost.bytes(tokens, raw, groups, seen=seen, in_prompt=seen < total)
        ordinals = sizes.INDEX_BYTES * cost.geometry.n_kv_heads * seen if tokens == seen else 0
        return spent - ordinals

    if kept > 1:
        assert spent(kept, plan.residual if cost.code is not None else 0) <= allowed
    if kept < seen - 1:
        assert spent(kept + 1, 0) > allowed, "room goes unused"


@at_length(
    80,
    2000,
    code=strategies.room("encode"),
    geometry=geometries,
    budget=plain_budgets,
    share=st.floats(0.2, 1),
    seen=st.integers(1, 3000),
)
def test_a_code_alone_keeps_raw_what_its_budget_allows(
    code: Any, geometry: Geometry, budget: Budget, share: float, seen: int
) -> None:
    found: list[int] = []
    refused: list[str] = []
    for own_budget in (replace(budget, amount=share * budget.amount), budget):
        river = build(Recipe((), code, budget=own_budget), geometry, HOST_GIVES | ROPE)
        if river is None:
            continue
        own = river.at(0)
        cost = own.costs[-1]
        try:
            residual = own.residual(seen, seen)
        except ImpossibleBudget as error:
            one_line(error)
            refused.append(own_budget.unit)
            continue
        allowed = sizes.allowed_bytes(own_budget, own.code_layers, geometry, seen)
        held = cost.bytes(seen, cost.rest(seen, residual))
        assert residual <= code.residual
        assert held <= allowed or residual == 0
        found.append(residual)
    assert found == sorted(found) and set(refused) <= {"B"}, "a share cannot be said to hold too little"
