"""From a recipe and a model's shapes to a river, or to the one sentence that says what does not fit.

Walks the parts in river order and compares what each needs with what the host and earlier parts give; checks
arguments, layers, positions and budgets. Whatever passes here does not fail later for how it is put together.
"""

from __future__ import annotations

import math
from typing import Any

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import catalogue, tier, words
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.river import River
from keyvalise.recipe.stage import Stage
from keyvalise.recipe.turned import parts_of
from keyvalise.types.code import Chained
from keyvalise.types.errors import ImpossibleBudget, RecipeError, UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers, Share, plain


def compose(recipe: Recipe, geometry: Geometry, gives: frozenset[str]) -> River:
    """The river of a recipe for a model of this geometry, whose host gives the needs in `gives`.

    Raises   BadArgument, UnmetNeed, ImpossibleBudget or RecipeError, the first that is found
    """
    for part in recipe.parts:
        words.check(part)
        words.check_order(part)
    have = gives | {"sets:layer", "sets:model"}
    for stage in recipe.stages:
        _check_layers(stage.layers, geometry)
        have = _after(stage, have - {"layers:alike"} | _alike(recipe, stage, geometry))
        _check_weights(stage, have)
        _check_tier(recipe, stage, have, geometry)
        _check_stage_budget(recipe, stage, geometry)
    _check_tiers(recipe, geometry)
    _check_again(recipe, have)
    if recipe.code is not None:
        for part in parts_of(recipe.code):
            _meet(part, have)
        if isinstance(recipe.code, Chained) and recipe.code_layers != ALL_LAYERS:
            raise RecipeError(f"{recipe.code.name} needs all layers: each builds on the one below")
        recipe.code.check(geometry)
        _check_layers(recipe.code_layers, geometry)
    _check_reader(recipe, have, geometry)
    _check_positions(recipe, have)
    if not recipe.stages and recipe.budget is not None:
        _check_code_budget(recipe, recipe.budget, geometry)
    return River(recipe, geometry)


def _after(stage: Stage, have: frozenset[str]) -> frozenset[str]:
    """What is given after a stage: scores end with it, one set per layer stays if the stage kept to it."""
    met, sets = have, False
    for part in stage.parts:
        _meet(part, met)
        met = (met | part.gives) - part.takes
        sets = (sets or "sets:layer" in part.gives) and "sets:layer" not in part.takes
    kept = frozenset(need for need in met if not need.startswith(("scores:", "sets:")))
    if "sets:model" in have and _is_alike_everywhere(stage):
        kept |= {"sets:model"}
    return kept | {"sets:layer"} if sets or "sets:model" in kept else kept


def _is_alike_everywhere(stage: Stage) -> bool:
    """Whether all heads of all layers keep the same tokens, and nothing is asked of what they hold."""
    is_plain = (stage.allocate.name, stage.select.name) == ("uniform", "top") and not stage.act.needs
    is_whole = stage.layers == ALL_LAYERS and not stage.rescorers
    return is_plain and is_whole and "sets:model" in stage.score.gives


def _check_weights(stage: Stage, have: frozenset[str]) -> None:
    """Entries can only weigh more than one where the attention is ours."""
    weighing = [part.name for part in (stage.select, stage.act) if "logw" in part.gives]
    if weighing and "lse" not in have:
        raise UnmetNeed(
            f"{weighing[0]} lets entries weigh more than one, and this model computes attention by itself"
        )


def _check_tier(recipe: Recipe, stage: Stage, have: frozenset[str], geometry: Geometry) -> None:
    code = tier.of(stage)
    if code is None:
        return
    for part in parts_of(code):
        _meet(part, have)
    code.check(geometry)
    cost = sizes.cost_of(recipe, stage, geometry)
    kept = cost.raw_entry if cost.code is None else cost.coded_entry
    if cost.lost_entry >= kept:
        raise RecipeError(
            f"{words.written(stage.act)} needs a smaller code for losers: they take "
            f"{cost.lost_entry // geometry.n_kv_heads} bytes, keepers {kept // geometry.n_kv_heads}"
        )


def _check_tiers(recipe: Recipe, geometry: Geometry) -> None:
    """A layer's losers are kept by all of its stages or by none: a budget counts what its own act keeps."""
    for layer in range(geometry.n_layers):
        acts = {tier.of(stage): stage.act for stage in recipe.stages if layer in stage.layers}
        if len(acts) > 1:
            one, other, *_ = map(words.written, acts.values())
            raise RecipeError(
                f"{one} and {other} keep losers in different ways; write the same code for losers in all "
                "stages of a layer, or in none"
            )


def _check_reader(recipe: Recipe, have: frozenset[str], geometry: Geometry) -> None:
    """Units are cut once, of entries that nobody judges while decoding and that are known by their head."""
    if recipe.reader is None:
        return
    _check_layers(recipe.reader_layers, geometry)
    if recipe.code is None and recipe.reader.place.tier == "device":
        have |= {"entries:near"}
    for part in recipe.reader.parts:
        _meet(part, have)
        have |= part.gives
    named = words.written(recipe.reader.unit)
    is_joint = isinstance(recipe.code, Chained)
    if recipe.code is not None and is_joint:
        raise RecipeError(
            f"{named} needs heads that are written one by one, and {recipe.code.name} writes all together"
        )
    judging = [stage for stage in recipe.stages if stage.decodes]
    if judging:
        when = next(when for when in judging[0].when if when.phase != "prompt")
        raise RecipeError(
            f"{named} reads few entries, and the stage '{when}' would judge all of them while decoding; "
            "let it act at prompt"
        )


def _alike(recipe: Recipe, stage: Stage, geometry: Geometry) -> frozenset[str]:
    """Whether an entry costs the same in all layers of a stage, so that counts may be moved between them."""
    costs = [sizes.cost_of(recipe, stage, geometry, layer) for layer in stage.layers.of(geometry.n_layers)]
    return frozenset({"layers:alike"} if all(cost == costs[0] for cost in costs) else ())


def _check_again(recipe: Recipe, have: frozenset[str]) -> None:
    """Every stage meets what it left behind: at its next step, or at the end of a second prompt."""
    for stage in recipe.stages:
        try:
            have = _after(stage, have | {"layers:alike"})
        except UnmetNeed as error:
            raise UnmetNeed(f"when the stage acts again, {error}") from None


def _meet(part: Any, have: frozenset[str]) -> None:
    missing = sorted(part.needs - have)
    if not missing:
        return
    need = missing[0]
    if need == "layers:alike":
        raise UnmetNeed(
            f"{part.name} needs {need}: it moves entries between layers, and here an entry does not cost the "
            "same in all layers of the stage; write the code and the other stages on all of them or on none"
        )
    givers = [name for name in catalogue.parts() if need in catalogue.part(name)().gives]
    nearest = (
        f"the nearest part that gives it is {givers[0]}" if givers else "no part gives it, only a model can"
    )
    raise UnmetNeed(f"{part.name} needs {need}, which neither the model nor an earlier part gives; {nearest}")


def _check_layers(layers: Layers, geometry: Geometry) -> None:
    if layers.step < 1:
        raise RecipeError(f"'on {layers}' goes no step; write ::1 or more")
    if sizes.n_in(layers, geometry) == 0:
        raise RecipeError(f"'on {layers}' names no layer; the model has layers 0 to {geometry.n_layers - 1}")


def _check_positions(recipe: Recipe, have: frozenset[str]) -> None:
    angles = {getattr(stage.act, "positions", "absolute") for stage in recipe.stages}
    if "slot" not in angles:
        return
    if len(angles) > 1:
        raise RecipeError("positions=slot holds for a whole recipe; write it in every stage")
    if "rope" not in have:
        raise UnmetNeed("positions=slot needs rope: the model has no rotary positions to turn")
    if "rope:static" not in have:
        raise UnmetNeed(
            "positions=slot needs rope:static: the model's rotary angles must not change with length"
        )
    if recipe.reader is not None:
        raise UnmetNeed(
            f"positions=slot needs all keys when it reads, and {recipe.reader.unit.name} leaves most out"
        )
    if recipe.code is not None:
        raise UnmetNeed(
            f"positions=slot needs raw keys, and {recipe.code.name} writes codes; leave the code out"
        )
    ragged = [stage.allocate.name for stage in recipe.stages if not stage.allocate.is_uniform]
    if ragged:
        raise UnmetNeed(
            f"positions=slot needs equally many entries in every head, and {ragged[0]} shares out unequally"
        )


def _check_stage_budget(recipe: Recipe, stage: Stage, geometry: Geometry) -> None:
    budget, act = stage.budget, stage.act
    chain = " > ".join(map(words.written, stage.parts))
    if budget is None:
        raise ImpossibleBudget(f"the stage '{chain}' has no budget; write one behind it, such as @ 25%")
    shares = [amount.percent for amount in (act.sinks, act.recent) if isinstance(amount, Share)]
    if sum(shares) > 100:
        raise ImpossibleBudget(
            f"{words.written(act)} protects {plain(sum(shares))}% of what it keeps; at most 100%"
        )
    if budget.unit == "%":
        least = sizes.least_share_of(sizes.cost_of(recipe, stage, geometry))
        if budget.amount < least:
            raise ImpossibleBudget(
                f"{words.written(act)} keeps what it does not choose, which needs at least "
                f"{plain(-(-least * 10 // 1) / 10)}% of the full cache, got {budget}"
            )
        return
    if sum(shares) == 100 and any(isinstance(amount, int) and amount for amount in (act.sinks, act.recent)):
        raise ImpossibleBudget(f"{words.written(act)} protects more than it keeps, whatever the budget")
    if budget.unit == "tok" and (budget.amount < 1 or budget.amount != int(budget.amount)):
        raise ImpossibleBudget(f"a budget of {budget} is no whole number of tokens; the least is 1tok")
    cost = sizes.cost_of(recipe, stage, geometry)
    need = _protected(stage)
    least = sizes.least_bytes(cost, need, stage.layers)
    if budget.unit == "B" and least > budget.amount:
        why = (
            f"{words.written(act)} protects {need} tokens" if need > 1 else "one token per head is the least"
        )
        raise ImpossibleBudget(
            f"{why}, which take {least}B; the budget is {budget}, at least {least}B is needed"
        )
    if budget.unit == "tok" and need > budget.amount:
        raise ImpossibleBudget(
            f"{words.written(act)} protects {need} tokens, {budget} are counted; at least {need}tok is needed"
        )


def _protected(stage: Stage) -> int:
    """The least count under which a stage protects no more than it keeps, and keeps something."""
    amounts = (stage.act.sinks, stage.act.recent)
    fixed = sum(amount for amount in amounts if not isinstance(amount, Share))
    share = sum(amount.percent for amount in amounts if isinstance(amount, Share)) / 100
    if share >= 1:
        return 1
    return max(1, math.ceil(fixed / (1 - share) - 1e-9))


def _check_code_budget(recipe: Recipe, budget: Budget, geometry: Geometry) -> None:
    code = recipe.code
    if code is None:
        if budget.unit != "%" or budget.amount < 100:
            raise ImpossibleBudget(
                f"a recipe that keeps everything raw needs 100%, got {budget}; name a method before it"
            )
        return
    if budget.unit == "tok" or budget.of_prompt:
        raise ImpossibleBudget(
            f"{code.name} alone drops no token, so {budget} cannot hold; "
            "write a share such as @ 50%, or a stage before it"
        )
    if budget.unit == "%":
        least = sizes.least_share(sizes.cost_of(recipe, None, geometry))
        if budget.amount < least:
            raise ImpossibleBudget(
                f"{code.name} needs at least {plain(-(-least * 10 // 1) / 10)}% of the full cache, "
                f"got {budget}; "
                "drop tokens before they are coded, or allow more"
            )
