"""From a recipe and a model's shapes to a river, or to the one sentence that says what does not fit.

Walks the parts in river order and compares what each needs with what the host and earlier parts give; checks
arguments, layers, positions and budgets. Whatever passes here does not fail later for how it is put together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import catalogue, words
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.stage import Stage, observers
from keyvalise.types.data import Memory
from keyvalise.types.errors import ImpossibleBudget, RecipeError, UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Encode, Observer
from keyvalise.types.quantity import Budget, Layers, Share, count, plain
from keyvalise.types.segment import Angle
from keyvalise.types.when import AtPrompt


@dataclass(frozen=True)
class LayerRiver:
    """What happens in one layer.

    always, in_prompt    observers that outlive the prompt, and those that do not
    """

    stages: tuple[Stage, ...]
    code: Encode | None
    always: tuple[Observer, ...]
    in_prompt: tuple[Observer, ...]
    angle: Angle
    budget: Budget | None
    code_layers: Layers
    costs: tuple[sizes.Cost, ...]

    @property
    def has_prompt_stages(self) -> bool:
        """Whether a stage must know where the prompt ends."""
        return any(isinstance(when, AtPrompt) for stage in self.stages for when in stage.when)

    @property
    def has_decode_stages(self) -> bool:
        """Whether a stage can act while decoding."""
        return any(stage.decodes for stage in self.stages)

    @property
    def has_cuts(self) -> bool:
        """Whether a memory depends on where calls are cut."""
        return bool(self.stages) or self.code is not None

    @property
    def is_tight(self) -> bool:
        """Whether a code alone must hold a budget, so that nothing may lie around uncoded or unused."""
        return self.code is not None and not self.stages and self.budget is not None

    @cached_property
    def is_quiet(self) -> bool:
        """Whether decoding changes nothing but the tail, as long as nothing is coded."""
        return not self.always and not self.has_decode_stages and not self.is_tight

    def tokens(
        self, stage: Stage, rows: Sequence[bool], memory: Memory, groups: Sequence[int] = ()
    ) -> list[int]:
        """Entries per kv head that a due stage leaves in every row; all where it is not the row's cut.

        groups   of the code that live in every head of a row before the stage acts
        """
        clocks = zip(rows, memory.clock, memory.prompt, groups or [0] * len(rows), strict=True)
        return [
            self.plan(stage, seen, basis(stage.budget, seen, prompt), alive).tokens if mine else seen
            for mine, seen, prompt, alive in clocks
        ]

    def residuals(
        self, due: Sequence[tuple[Stage, Sequence[bool]]], memory: Memory, groups: Sequence[int]
    ) -> list[int]:
        """The most entries per kv head that may stay raw in every row, after the stages due have acted."""
        clocks = list(zip(memory.clock, memory.prompt, strict=True))
        residual = [self.residual(seen, prompt) for seen, prompt in clocks]
        for stage, rows in due:
            for row in (row for row, mine in enumerate(rows) if mine):
                seen, prompt = clocks[row]
                plan = self.plan(stage, seen, basis(stage.budget, seen, prompt), groups[row])
                residual[row] = min(residual[row], plan.residual)
        return residual

    def crowded(self, memory: Memory) -> list[str]:
        """A sentence for every stage that protects more than it may keep of the present memory."""
        found = []
        for stage in self.stages:
            kept = min(self.tokens(stage, (True,) * len(memory.clock), memory))
            guarded = sum(count(amount, kept) for amount in (stage.act.sinks, stage.act.recent))
            if 0 < kept < min(guarded, *memory.clock):
                found.append(
                    f"{words.written(stage.act)} protects {guarded} tokens, the budget keeps {kept}: "
                    "the first sinks stay, then the newest"
                )
        return found

    def plan(self, stage: Stage, seen: int, total: int, groups: float = 0) -> sizes.Plan:
        """What a stage keeps of `seen` tokens when a share is of `total`.

        groups   of codes whose tokens share parameters: how many live in every head before the stage acts
        """
        for own, cost in zip(self.stages, self.costs, strict=False):
            if own is stage:
                return sizes.plan_stage(cost, stage, seen, total, groups)
        raise ValueError("this stage belongs to another layer")

    def residual(self, seen: int, prompt: int) -> int:
        """The most entries per kv head that may stay raw after `seen` tokens, `prompt` of them a prompt's."""
        if self.code is None:
            return seen
        if self.stages:
            return self.code.residual
        return sizes.plan_code(self.costs[-1], self.budget, self.code_layers, seen, max(seen, prompt))


def basis(budget: Budget | None, seen: int, prompt: int) -> int:
    """The tokens that a share is of: all seen, or of a prompt that is known to be longer; or the prompt's."""
    if budget is not None and budget.of_prompt:
        return prompt or seen
    return max(seen, prompt)


@dataclass(frozen=True)
class River:
    """A recipe that fits a model's shapes."""

    recipe: Recipe
    geometry: Geometry

    def at(self, layer: int) -> LayerRiver:
        """The river of one layer; a layer outside every range keeps everything raw."""
        recipe = self.recipe
        code = recipe.code if layer in recipe.code_layers else None
        stages = tuple(s for s in recipe.stages if layer in s.layers and (code is not None or not s.is_idle))
        always, in_prompt = observers(stages)
        costs = tuple(sizes.cost_of(recipe, stage, self.geometry, layer) for stage in (*stages, None))
        return LayerRiver(
            stages, code, always, in_prompt, recipe.positions, recipe.budget, recipe.code_layers, costs
        )


def compose(recipe: Recipe, geometry: Geometry, gives: frozenset[str]) -> River:
    """The river of a recipe for a model of this geometry, whose host gives the needs in `gives`.

    Raises   BadArgument, UnmetNeed, ImpossibleBudget or RecipeError, the first that is found
    """
    for part in recipe.parts:
        words.check(part)
    have = gives | {"sets:layer"}
    for stage in recipe.stages:
        have = _after(stage, have)
        _check_layers(stage.layers, geometry)
        _check_stage_budget(recipe, stage, geometry)
    if recipe.code is not None:
        _meet(recipe.code, have)
        recipe.code.check(geometry)
        _check_layers(recipe.code_layers, geometry)
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
    kept = frozenset(need for need in met if not need.startswith("scores:"))
    return kept | {"sets:layer"} if sets else kept - {"sets:layer"}


def _meet(part: Any, have: frozenset[str]) -> None:
    missing = sorted(part.needs - have)
    if not missing:
        return
    need = missing[0]
    givers = [name for name in catalogue.parts() if need in catalogue.part(name).gives]
    nearest = (
        f"the nearest part that gives it is {givers[0]}" if givers else "no part gives it, only a model can"
    )
    raise UnmetNeed(f"{part.name} needs {need}, which neither the model nor an earlier part gives; {nearest}")


def _check_layers(layers: Layers, geometry: Geometry) -> None:
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
