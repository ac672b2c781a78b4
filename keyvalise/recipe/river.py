"""A recipe that fits a model: what happens in each of its layers, and how much of it.

Knows budgets as tokens of a memory; how bytes become tokens is `recipe/bytes.py`'s business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from keyvalise.ops import protect
from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import words
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.reader import Reader
from keyvalise.recipe.stage import Stage, observers
from keyvalise.types.code import Code
from keyvalise.types.data import Env, Memory
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import Observer
from keyvalise.types.quantity import Budget, Layers, count, plain
from keyvalise.types.scratch import Scratch
from keyvalise.types.segment import Angle
from keyvalise.types.when import AtPrompt


@dataclass(frozen=True)
class LayerRiver:
    """What happens in one layer.

    always, in_prompt    observers that outlive the prompt, and those that do not
    """

    stages: tuple[Stage, ...]
    code: Code | None
    always: tuple[Observer, ...]
    in_prompt: tuple[Observer, ...]
    angle: Angle
    budget: Budget | None
    code_layers: Layers
    costs: tuple[sizes.Cost, ...]
    reader: Reader | None = None

    @property
    def has_prompt_stages(self) -> bool:
        """Whether a stage must know where the prompt ends."""
        return any(isinstance(when, AtPrompt) for stage in self.stages for when in stage.when)

    @property
    def has_joint_stages(self) -> bool:
        """Whether a stage looks at all layers."""
        return any(stage.scope == "model" for stage in self.stages)

    @property
    def has_decode_stages(self) -> bool:
        """Whether a stage can act while decoding."""
        return any(stage.decodes for stage in self.stages)

    @property
    def has_cuts(self) -> bool:
        """Whether a memory depends on where calls are cut."""
        return bool(self.stages) or self.code is not None or self.reader is not None

    @property
    def is_tight(self) -> bool:
        """Whether a code alone must hold a budget, so that nothing may lie around uncoded or unused."""
        return self.code is not None and not self.stages and self.budget is not None

    @cached_property
    def is_quiet(self) -> bool:
        """Whether decoding changes nothing but the tail, as long as nothing is coded."""
        is_idle = not self.always and not self.has_decode_stages and not self.is_tight
        return is_idle and self.reader is None

    def telling(self, known: Collection[str]) -> list[Any]:
        """Parts that can say how much they came to keep: what they need for it is among the statistics known,
        for what only a prompt needs is forgotten behind it.
        """
        parts = dict.fromkeys(part for stage in self.stages for part in stage.parts)
        return [
            part
            for part in parts
            if getattr(part, "came_to", None)
            and all(o.stats <= {*known} for o in getattr(part, "observers", ()))
        ]

    def is_over(self, is_prompt_known: bool) -> bool:
        """Whether nothing more is decided of what is held; a prompt whose end nobody has said may go on."""
        return self.is_quiet and (is_prompt_known or not self.stages)

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

    def notes(
        self, memory: Memory, spans: Mapping[str, Sequence[tuple[int, int]]] | None = None
    ) -> list[str]:
        """A sentence for whatever the present memory holds or protects beyond its budget."""
        return [*self._crowded(memory, spans or {}), *self._overdrawn(memory)]

    def _overdrawn(self, memory: Memory) -> list[str]:
        """Few tokens in a code alone: some wait for their group to fill, and nothing may be dropped."""
        if self.code is None or self.budget is None or not self.is_tight:
            return []
        seen = max(memory.clock)
        share = sizes.overdrawn(self.costs[-1], self.budget, self.code_layers, seen) if seen else None
        if share is None:
            return []
        return [
            f"{self.code.name} writes whole groups of {self.code.group} tokens and drops none: {seen} tokens "
            f"take {plain(round(share, 1))}%, more than {self.budget}, until more are seen"
        ]

    def _crowded(self, memory: Memory, spans: Mapping[str, Sequence[tuple[int, int]]]) -> list[str]:
        """Every stage that protects more than it may keep."""
        found = []
        for stage in self.stages:
            kept = min(self.tokens(stage, (True,) * len(memory.clock), memory))
            sinks, recent = (count(amount, kept) for amount in (stage.act.sinks, stage.act.recent))
            guarded = sinks + recent
            for seen, span in zip(memory.clock, spans.get(stage.only, ()), strict=False):
                guarded = max(guarded, protect.total(seen, sinks=sinks, recent=recent, only=span))
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
class Bed:
    """What one layer's river flows in: its part of the recipe, its surroundings, and what the layer below has
    left in this call.
    """

    river: LayerRiver
    env: Env
    scratch: Scratch | None = None


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
        positions, reader = recipe.positions, recipe.reader if layer in recipe.reader_layers else None
        always += () if reader is None else reader.observers
        return LayerRiver(
            stages, code, always, in_prompt, positions, recipe.budget, recipe.code_layers, costs, reader
        )
