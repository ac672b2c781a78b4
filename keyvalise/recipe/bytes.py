"""From budgets to tokens: what entries cost in one layer of one row, and the most that a budget allows.

The costs are upper bounds of what the store holds right after a decision, with metadata, without slack; the
count of tokens is found by bisection, so that no formula of a budget stands anywhere else.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvalise.recipe.stage import Stage, observers
from keyvalise.types.errors import ImpossibleBudget
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Act, Encode, Observer
from keyvalise.types.quantity import Budget, Layers, plain

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

INDEX_BYTES = 4
"""An ordinal, a column, a log-weight, a pointer to a group: four bytes each."""

LONG = 2**20
"""Tokens of a prompt that is long enough for constants not to count."""


@dataclass(frozen=True, slots=True)
class Plan:
    """tokens: entries kept per kv head at a uniform split;  residual: the most of them that stay raw."""

    tokens: int
    residual: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What one layer of one row costs under a recipe.

    per_entry     bytes beside key, value and code of a kept entry of one kv head
    fixed_bytes   bytes that do not depend on how much is kept, once the prompt is over
    prompt_entry, prompt_bytes    what comes to both while the prompt is not over
    """

    geometry: Geometry
    code: Encode | None
    act: Act | None
    per_entry: int
    fixed_bytes: int
    prompt_entry: int = 0
    prompt_bytes: int = 0

    def bytes(
        self, kept: int, raw: int, groups: float = 0, *, seen: int | None = None, in_prompt: bool = False
    ) -> int:
        """Bytes of `kept` of `seen` entries per kv head, `raw` of them raw; `groups` of codes lived before.

        Entries that leave old groups one by one may leave every group alive: each then costs its parameters.
        """
        shape = self.geometry
        per_head = raw * shape.entry_bytes + kept * self.per_entry
        total = self.fixed_bytes
        if self.act is not None:
            total += self.act.cost(shape, kept if seen is None else seen, kept)
        if in_prompt:
            per_head, total = per_head + kept * self.prompt_entry, total + self.prompt_bytes
        coded = kept - raw
        if self.code is not None and coded:
            shared = self.code.group_bytes(shape)
            own = round(self.code.bytes_per_entry(shape) - shared / self.code.group)
            pointer = INDEX_BYTES if groups and shared else 0
            old = min(coded, groups)
            alive = old + -(-(coded - old) // self.code.group)
            per_head += coded * (own + pointer) + math.ceil(alive * shared)
        return total + shape.n_kv_heads * per_head

    def raw(self, kept: int, residual: int) -> int:
        """The most of `kept` entries that stay raw: the residual, or what does not fill a group."""
        if self.code is None:
            return kept
        return min(kept, max(residual, self.code.group - 1))

    def plan(self, allowed: int, seen: int, groups: float = 0, *, in_prompt: bool = False) -> Plan:
        """The most tokens whose bytes are allowed, then the largest residual; at least one token.

        A run without a gap costs no ordinals, so everything stays as soon as it fits bare.
        """
        if self.code is None:
            bare = self.bytes(seen, seen, seen=seen, in_prompt=in_prompt)
            if bare - self.geometry.n_kv_heads * INDEX_BYTES * seen <= allowed:
                return Plan(seen, seen)

        def spent(kept: int, residual: int = 0) -> int:
            return self.bytes(kept, self.raw(kept, residual), groups, seen=seen, in_prompt=in_prompt)

        tokens = max(1, bisect.bisect_right(range(1, seen + 1), allowed, key=spent))
        if self.code is None:
            return Plan(tokens, tokens)
        residual = self.code.residual
        while residual and spent(tokens, residual) > allowed:
            residual = max(residual - self.code.group, 0)
        return Plan(tokens, residual)


def cost_of(recipe: Recipe, stage: Stage | None, geometry: Geometry, layer: int | None = None) -> Cost:
    """The cost of a layer in which this stage decides; None: of one that is only coded."""
    stages = recipe.stages if layer is None else tuple(s for s in recipe.stages if layer in s.layers)
    is_coded = layer is None or layer in recipe.code_layers
    always, in_prompt = observers(stages)
    fixed, extra = INDEX_BYTES * (geometry.n_kv_heads + 1), INDEX_BYTES
    if all(s.allocate.is_uniform for s in stages):
        fixed = 0
    if any("logw" in s.select.gives | s.act.gives for s in stages):
        extra += INDEX_BYTES
    return Cost(
        geometry,
        recipe.code if is_coded else None,
        None if stage is None else stage.act,
        extra + _column_bytes(always),
        fixed + _stat_bytes(always, geometry),
        _column_bytes(in_prompt),
        _stat_bytes(in_prompt, geometry),
    )


def _column_bytes(found: tuple[Observer, ...]) -> int:
    return INDEX_BYTES * len({name for observer in found for name in observer.columns})


def _stat_bytes(found: tuple[Observer, ...], geometry: Geometry) -> int:
    return sum(observer.stat_bytes(geometry) for observer in found)


def allowed_bytes(budget: Budget, layers: Layers, geometry: Geometry, total: int) -> int:
    """What a share or a number of bytes allows one layer, where shares are of `total` tokens."""
    if budget.unit == "B":
        return int(budget.amount / max(1, n_in(layers, geometry)))
    return int(total * geometry.token_bytes * budget.amount / 100 + 1e-6)


def n_in(layers: Layers, geometry: Geometry) -> int:
    """How many of the model's layers a range names."""
    return sum(layer in layers for layer in range(geometry.n_layers))


def plan_stage(cost: Cost, stage: Stage, seen: int, total: int, groups: float = 0) -> Plan:
    """What a stage keeps of `seen` tokens when a share is of `total`; `groups` of codes live in each head.

    Formula  tok: that many tokens; 100 %: all of them; else the most whose bytes are allowed
    """
    budget = stage.budget
    assert budget is not None, "a stage without a budget is refused when a recipe is built"
    if budget.unit == "tok":
        return Plan(int(budget.amount), cost.code.residual if cost.code is not None else int(budget.amount))
    if budget.amount == 100 and budget.unit == "%" and cost.code is None:
        return Plan(max(seen, total), max(seen, total))
    allowed = allowed_bytes(budget, stage.layers, cost.geometry, total)
    return cost.plan(allowed, seen, groups, in_prompt=seen < total)


def plan_code(cost: Cost, budget: Budget | None, layers: Layers, seen: int, total: int) -> int:
    """The most of `seen` entries that may stay raw where nothing is dropped.

    Raises   ImpossibleBudget where a number of bytes does not even hold all of them coded
    """
    code = cost.code
    assert code is not None, "only a coded layer has a residual"
    if budget is None:
        return code.residual
    allowed, residual = allowed_bytes(budget, layers, cost.geometry, total), code.residual
    while residual and cost.bytes(seen, cost.raw(seen, residual)) > allowed:
        residual = max(residual - code.group, 0)
    least = cost.bytes(seen, cost.raw(seen, residual)) * n_in(layers, cost.geometry)
    if budget.unit == "B" and least > budget.amount:
        raise ImpossibleBudget(
            f"{code.name} holds {seen} tokens in {_mebibytes(least)} at least, {budget} were allowed; "
            "drop tokens before they are coded, or allow more"
        )
    return residual


def least_share(cost: Cost) -> float:
    """The share of the full cache, in percent, that a long context takes when everything is coded."""
    per_token = (cost.bytes(2 * LONG, 0) - cost.bytes(LONG, 0)) / LONG
    return 100 * per_token / cost.geometry.token_bytes


def least_bytes(cost: Cost, tokens: int, layers: Layers) -> int:
    """Bytes that a stage over these layers needs to hold `tokens` entries per kv head."""
    return cost.bytes(tokens, cost.raw(tokens, 0)) * n_in(layers, cost.geometry)


def slope(recipe: Recipe, geometry: Geometry) -> float:
    """Bytes per further token of a long prompt, one row, all layers."""
    return (held(recipe, geometry, 2 * LONG) - held(recipe, geometry, LONG)) / LONG


def held(recipe: Recipe, geometry: Geometry, n: int) -> int:
    """Bytes that one row holds after a prompt of n tokens, over all layers."""
    return sum(_held_in(recipe, geometry, layer, n) for layer in range(geometry.n_layers))


def _held_in(recipe: Recipe, geometry: Geometry, layer: int, n: int) -> int:
    stages = [stage for stage in recipe.stages if layer in stage.layers and stage.budget is not None]
    stages = [stage for stage in stages if any(when.phase != "decode" for when in stage.when)]
    if not stages:
        cost = cost_of(recipe, None, geometry, layer)
        if cost.code is None:
            return n * geometry.token_bytes
        return cost.bytes(n, cost.raw(n, cost.code.residual if recipe.budget is None else 0))
    cost = cost_of(recipe, stages[-1], geometry, layer)
    plan = min((plan_stage(cost, stage, n, n) for stage in stages), key=lambda plan: plan.tokens)
    kept = min(plan.tokens, n)
    if kept == n and cost.code is None:
        return n * geometry.token_bytes + cost.fixed_bytes
    return cost.bytes(kept, cost.raw(kept, plan.residual))


def _mebibytes(n_bytes: int) -> str:
    return f"{plain(round(n_bytes / 2**20, 1) or 0.1)}MiB"
