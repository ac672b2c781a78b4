"""One decision: when it is made, by which parts, and how much may stay.

Knows parts by their protocols only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from keyvalise.recipe.reader import Reader
from keyvalise.types.code import Code
from keyvalise.types.part import Act, Allocate, Demoting, Observer, Rescore, Score, Select
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from keyvalise.types.when import Every, When


@dataclass(frozen=True)
class Stage:
    """When to decide, how, and how much may stay; `budget` None is refused when the recipe is built."""

    when: tuple[When, ...]
    score: Score
    rescorers: tuple[Rescore, ...]
    allocate: Allocate
    select: Select
    act: Act
    budget: Budget | None
    layers: Layers = ALL_LAYERS

    @property
    def parts(self) -> tuple[Any, ...]:
        """All parts in river order."""
        return (self.score, *self.rescorers, self.allocate, self.select, self.act)

    @property
    def is_idle(self) -> bool:
        """Whether raw entries never have to leave: the budget is the full cache."""
        budget = self.budget
        return budget is not None and budget.unit == "%" and budget.amount == 100 and not budget.of_prompt

    @property
    def scope(self) -> Literal["layer", "model"]:
        """Whether it decides in every layer for itself, or once a call for all."""
        return "model" if any(getattr(part, "scope", "layer") == "model" for part in self.parts) else "layer"

    @property
    def decodes(self) -> bool:
        """Whether the stage can act while decoding."""
        return any(isinstance(when, Every) and when.phase != "prompt" for when in self.when)

    @property
    def only(self) -> str:
        """The span outside which nothing may be dropped, if it is for one alone."""
        return str(getattr(self.act, "only", ""))

    @property
    def observers(self) -> tuple[Observer, ...]:
        """What its score, rescorers and act want remembered."""
        own = self.act.observers if isinstance(self.act, Demoting) else ()
        return self.score.observers + tuple(o for r in self.rescorers for o in r.observers) + own


class Fields(NamedTuple):
    """What a text or JSON says: the fields of a recipe."""

    stages: tuple[Stage, ...] = ()
    code: Code | None = None
    code_layers: Layers = ALL_LAYERS
    budget: Budget | None = None
    name: str | None = None
    reader: Reader | None = None
    reader_layers: Layers = ALL_LAYERS


def observers(stages: tuple[Stage, ...]) -> tuple[tuple[Observer, ...], tuple[Observer, ...]]:
    """(always, in prompt): what decoding stages need, and what only the prompt's need; equal ones once."""
    always = dict.fromkeys(o for stage in stages if stage.decodes for o in stage.observers)
    others = dict.fromkeys(o for stage in stages for o in stage.observers)
    return tuple(always), tuple(observer for observer in others if observer not in always)
