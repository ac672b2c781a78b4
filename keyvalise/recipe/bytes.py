"""From budgets to tokens: what entries cost in one layer of one row, and the most that a budget allows.

The costs are upper bounds of what the store holds right after a decision, with metadata, without slack; the
count of tokens is found by bisection, so that no formula of a budget stands anywhere else.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from keyvalise.recipe import tier
from keyvalise.recipe.stage import Stage, observers
from keyvalise.types.code import Code, Fitted
from keyvalise.types.errors import ImpossibleBudget
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Act, Observer
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


@dataclass(frozen=True)
class Cost:
    """What one layer of one row costs under a recipe; all numbers are bytes over all kv heads.

    acts                      what they remember of losers stays, whichever stage decides
    raw_entry, coded_entry    a kept entry with its metadata, parameters that a group shares left out
    lost_entry                of one that lost, where losers are kept
    fixed_bytes               what does not depend on how much is kept, once the prompt is over
    prompt_entry, prompt_bytes    what comes to an entry and to the fixed bytes while the prompt is not over
    """

    geometry: Geometry
    code: Code | None
    acts: tuple[Act, ...]
    raw_entry: int
    coded_entry: int
    lost_entry: int
    fixed_bytes: int
    prompt_entry: int
    prompt_bytes: int

    @cached_property
    def group(self) -> int:
        """Entries that leave the raw tail together."""
        return 1 if self.code is None else self.code.group

    @cached_property
    def shared(self) -> int:
        """Bytes of the parameters that a group shares."""
        return 0 if self.code is None else self.geometry.n_kv_heads * self.code.group_bytes(self.geometry)

    @cached_property
    def residuals(self) -> tuple[int, ...]:
        """What may stay raw, ascending: the code's residual, and less by whole groups, down to nothing."""
        if self.code is None:
            return (0,)
        return tuple(sorted({*range(self.code.residual, 0, -self.group), 0}))

    def bytes(
        self, kept: int, raw: int, groups: float = 0, *, seen: int | None = None, in_prompt: bool = False
    ) -> int:
        """Bytes of `kept` of `seen` entries per kv head, `raw` of them raw; `groups` of codes lived before.

        Entries that leave old groups one by one may leave every group alive: each then costs its parameters.
        """
        coded = kept - raw
        total = self.fixed_bytes + raw * self.raw_entry + coded * self.coded_entry
        total += sum(act.cost(self.geometry, kept if seen is None else seen, kept) for act in self.acts)
        total += self.lost_entry * (max(seen - kept, 0) if seen is not None else 0)
        if in_prompt:
            total += self.prompt_bytes + kept * self.prompt_entry
        if coded and self.shared:
            pointer = INDEX_BYTES * self.geometry.n_kv_heads if groups else 0
            old = min(coded, groups)
            total += coded * pointer + math.ceil((old - (old - coded) // self.group) * self.shared)
        return total

    def raw(self, kept: int, residual: int) -> int:
        """The most of `kept` entries that stay raw: the residual, or what does not fill a group."""
        return kept if self.code is None else min(kept, max(residual, self.group - 1))

    def rest(self, seen: int, residual: int) -> int:
        """How many of `seen` entries stay raw where none is dropped: whole groups leave, the oldest first."""
        over = max(seen - residual, 0)
        return seen - min(-(-over // self.group), seen // self.group) * self.group

    def plan(self, allowed: int, seen: int, groups: float = 0, *, in_prompt: bool = False) -> Plan:
        """The most tokens whose bytes are allowed, then the largest residual; at least one token.

        A run without a gap costs no ordinals, so everything stays as soon as it fits bare.
        """

        def spent(kept: int, residual: int = 0) -> int:
            return self.bytes(kept, self.raw(kept, residual), groups, seen=seen, in_prompt=in_prompt)

        ordinals = self.geometry.n_kv_heads * INDEX_BYTES * seen
        tokens = max(1, bisect.bisect_right(range(1, seen + 1), allowed, key=spent))
        if spent(seen) - ordinals <= allowed:
            tokens, allowed = seen, allowed + ordinals
        if self.code is None:
            return Plan(tokens, tokens)
        return Plan(tokens, self.residual(allowed, partial(spent, tokens)))

    def residual(self, allowed: int, spent: Callable[[int], int]) -> int:
        """The largest residual that spends no more than is allowed; none where even that is too much."""
        return self.residuals[max(0, bisect.bisect_right(self.residuals, allowed, key=spent) - 1)]


def cost_of(recipe: Recipe, stage: Stage | None, geometry: Geometry, layer: int | None = None) -> Cost:
    """The cost of a layer in which this stage decides; None: of one that is only coded."""
    stages = recipe.stages if layer is None else tuple(s for s in recipe.stages if layer in s.layers)
    code = recipe.code if layer is None or layer in recipe.code_layers else None
    always, in_prompt = observers(stages)
    is_weighted = any("logw" in s.select.gives | s.act.gives for s in stages)
    # Where nothing is dropped, a head's entries follow one another, and no ordinals are written.
    n_heads, extra = geometry.n_kv_heads, INDEX_BYTES * (bool(stages) + is_weighted) + _column_bytes(always)
    coded, home = 0.0, 0
    if code is not None:
        home = _home_bytes(code, geometry)
        coded = code.bytes_per_entry(geometry) - code.group_bytes(geometry) / code.group
    held, fixed = _reading(recipe, geometry, layer)
    bounds = 0 if all(s.allocate.is_uniform for s in stages) else INDEX_BYTES * (n_heads + 1)
    lost = 0
    if stage is not None and (losers := tier.of(stage)) is not None:
        lost = math.ceil(losers.bytes_per_entry(geometry)) + INDEX_BYTES * (1 + is_weighted)
        home += _home_bytes(losers, geometry)
    acts = {} if stage is None else {act.name: act for act in (*(s.act for s in stages), stage.act)}
    return Cost(
        geometry,
        code,
        tuple(acts.values()),
        raw_entry=n_heads * (geometry.entry_bytes + extra) + held,
        coded_entry=round(n_heads * coded) + n_heads * extra + held,
        lost_entry=n_heads * lost,
        fixed_bytes=bounds + _stat_bytes(always, geometry) + n_heads * home + fixed,
        prompt_entry=n_heads * _column_bytes(in_prompt),
        prompt_bytes=_stat_bytes(in_prompt, geometry),
    )


def _reading(recipe: Recipe, geometry: Geometry, layer: int | None) -> tuple[int, int]:
    """Bytes of what stands for an entry in units, and of what is remembered of the queries."""
    reader = recipe.reader
    if reader is None or (layer is not None and layer not in recipe.reader_layers):
        return 0, 0
    per_entry = geometry.n_kv_heads * reader.bytes_per_entry(geometry)
    return math.ceil(per_entry), _stat_bytes(reader.observers, geometry)


def _home_bytes(code: Code | None, geometry: Geometry) -> int:
    """Parameters that a head's first entries are written with, and all others."""
    return code.home_bytes(geometry) if isinstance(code, Fitted) else 0


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
    return len(layers.of(geometry.n_layers))


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
    allowed = allowed_bytes(budget, layers, cost.geometry, total)

    def spent(residual: int) -> int:
        return cost.bytes(seen, cost.rest(seen, residual))

    residual = cost.residual(allowed, spent)
    least = spent(residual) * n_in(layers, cost.geometry)
    if budget.unit == "B" and least > budget.amount:
        raise ImpossibleBudget(
            f"{code.name} holds {seen} tokens in {_mebibytes(least)} at least, {budget} were allowed; "
            "drop tokens before they are coded, or allow more"
        )
    return residual


def overdrawn(cost: Cost, budget: Budget, layers: Layers, seen: int) -> float | None:
    """The share in percent that `seen` tokens take at least, where a code alone cannot hold its budget yet:
    what does not fill a group stays raw.
    """
    least = cost.bytes(seen, cost.rest(seen, 0))
    is_over = least > allowed_bytes(budget, layers, cost.geometry, seen)
    return 100 * least / (seen * cost.geometry.token_bytes) if is_over else None


def least_share(cost: Cost) -> float:
    """The share of the full cache, in percent, that a long context takes when everything is coded."""
    per_token = (cost.bytes(2 * LONG, 0) - cost.bytes(LONG, 0)) / LONG
    return 100 * per_token / cost.geometry.token_bytes


def least_share_of(cost: Cost) -> float:
    """The share of the full cache, in percent, that a stage needs for every further token of a long context,
    however few it keeps.
    """
    least = cost.bytes(1, cost.raw(1, 0), seen=2 * LONG) - cost.bytes(1, cost.raw(1, 0), seen=LONG)
    return 100 * least / LONG / cost.geometry.token_bytes


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
            per_entry, fixed = _reading(recipe, geometry, layer)
            return n * (geometry.token_bytes + per_entry) + fixed
        return cost.bytes(n, cost.rest(n, cost.code.residual if recipe.budget is None else 0))
    cost = cost_of(recipe, stages[-1], geometry, layer)
    plan = min((plan_stage(cost, stage, n, n) for stage in stages), key=lambda plan: plan.tokens)
    kept = min(plan.tokens, n)
    if kept == n and cost.code is None:
        return n * geometry.token_bytes + cost.fixed_bytes
    return cost.bytes(kept, cost.raw(kept, plan.residual), seen=n)


def _mebibytes(n_bytes: int) -> str:
    return f"{plain(round(n_bytes / 2**20, 1) or 0.1)}MiB"
