"""A recipe in the making: steps that later words may still change, finished into stages.

Knows how names expand, replace and repeat; knows nothing of signs and places in a text.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from keyvalise.recipe import catalogue, words
from keyvalise.recipe import reader as readers
from keyvalise.recipe.reader import Reader
from keyvalise.recipe.stage import Fields, Stage
from keyvalise.recipe.turned import Turned
from keyvalise.types.code import Chained
from keyvalise.types.errors import RecipeError, UnknownName
from keyvalise.types.quantity import ALL_LAYERS, Budget, Layers
from keyvalise.types.when import Every, When

DEFAULTS = {"allocate": "uniform", "select": "top", "act": "drop"}
"""What a chain does in rooms that it does not name."""


@dataclass
class Step:
    """A stage in the making; `is_same` repeats the step before it, as that is in the end."""

    when: tuple[When, ...]
    is_same: bool = False
    parts: dict[str, Any] = field(default_factory=dict)
    rescorers: list[Any] = field(default_factory=list)
    budget: Budget | None = None
    layers: Layers | None = None

    def put(self, part: Any) -> None:
        """Rescorers stack; any other part takes the place of the one in its room."""
        if part.room == "rescore":
            self.rescorers.append(part)
        else:
            self.parts[part.room] = part

    def change(self, name: str, key: str, value: words.Value) -> bool:
        """Set an argument of every part of this name; whether there was one."""
        found = False
        for home, part in self.parts.items():
            if part.name == name:
                self.parts[home], found = words.changed(part, key, value), True
        for i, part in enumerate(self.rescorers):
            if part.name == name:
                self.rescorers[i], found = words.changed(part, key, value), True
        return found

    def stage(self) -> Stage:
        if "score" not in self.parts:
            named = ", ".join(part.name for part in (*self.rescorers, *self.parts.values()))
            scores = ", ".join(catalogue.parts("score"))
            raise RecipeError(f"the stage {named!r} has no score; it needs one of {scores}")
        parts = {home: catalogue.part(name)() for home, name in DEFAULTS.items()} | self.parts
        return Stage(
            self.when,
            parts["score"],
            tuple(self.rescorers),
            parts["allocate"],
            parts["select"],
            parts["act"],
            self.budget,
            self.layers or ALL_LAYERS,
        )


@dataclass
class Draft:
    """Steps, code with what turns it, and reader in the making; `budget` is for a recipe without steps."""

    steps: list[Step] = field(default_factory=list)
    code: Any = None
    transforms: list[Any] = field(default_factory=list)
    code_layers: Layers = ALL_LAYERS
    budget: Budget | None = None
    name: str | None = None
    is_budgeted: bool = False
    reader: dict[str, Any] = field(default_factory=dict)
    reader_layers: Layers = ALL_LAYERS

    @property
    def written(self) -> list[Step]:
        """The steps that are written out; what is set on them, `same` follows."""
        return [step for step in self.steps if not step.is_same]

    @property
    def last(self) -> Step | None:
        """The last step that is written out, which is the one that later parts change."""
        return self.written[-1] if self.written else None

    def argue(self, arguments: dict[str, words.Value], published: catalogue.Published) -> None:
        """Give a named recipe its arguments; each may set several parts, `every` adds a stage.

        Raises   UnknownName for an argument that the recipe does not have
        """
        for key, value in arguments.items():
            if key == "every":
                self._repeat(value)
                continue
            if key not in published.arguments:
                known = [*published.arguments, *(["every"] if self.steps else [])]
                raise UnknownName(f"argument of {published.name}", key, known)
            for target in published.arguments[key]:
                name, _, argument = target.partition(".")
                if self.code is not None and self.code.name == name:
                    self.code = words.changed(self.code, argument, value)
                for i, part in enumerate(self.transforms):
                    if part.name == name:
                        self.transforms[i] = words.changed(part, argument, value)
                for home, part in self.reader.items():
                    if part.name == name:
                        self.reader[home] = words.changed(part, argument, value)
                for step in self.steps:
                    step.change(name, argument, value)

    def _repeat(self, n: words.Value) -> None:
        """Act every n tokens of decoding: instead of the present rhythm, or for the first time."""
        if not isinstance(n, int) or isinstance(n, bool) or n < 1:
            raise RecipeError(
                f"every={words.spoken(n)} is not allowed; every must be a whole number at least 1"
            )
        if not self.steps:
            raise RecipeError("every needs a stage to repeat, and this recipe has none")
        is_rhythmic = False
        for step in self.steps:
            rhythm = [isinstance(when, Every) and when.phase != "prompt" for when in step.when]
            is_rhythmic |= any(rhythm)
            step.when = tuple(
                Every(n, when.phase) if isinstance(when, Every) and beats else when
                for when, beats in zip(step.when, rhythm, strict=True)
            )
        if not is_rhythmic:
            self.steps.append(Step((Every(n, "decode"),), is_same=True))

    def afford(self, budget: Budget, steps: list[Step]) -> None:
        """A budget behind these steps, or behind a code: for all steps, or for a recipe without steps.

        Raises   RecipeError where a code after stages comes with a second budget
        """
        if not steps and self.steps:
            if self.is_budgeted:
                raise RecipeError("this recipe has a budget already; it stands behind the stage")
            steps = self.written
        for step in steps:
            is_of_prompt = step.budget is not None and step.budget.of_prompt and budget.unit == "%"
            step.budget = replace(budget, of_prompt=True) if is_of_prompt else budget
        if not steps:
            self.budget = budget
        self.is_budgeted = True

    def finish(self) -> Fields:
        """The fields of the recipe."""
        stages: list[Stage] = []
        for step in self.steps:
            if step.is_same:
                before = stages[-1]
                budget, layers = step.budget or before.budget, step.layers or before.layers
                stages.append(replace(before, when=step.when, budget=budget, layers=layers))
            else:
                stages.append(step.stage())
        budget = None if stages else self.budget
        code_layers = ALL_LAYERS if self.code is None else self.code_layers
        reader, layers = self._reader(), self.reader_layers if self.reader else ALL_LAYERS
        return Fields(tuple(stages), self._code(), code_layers, budget, self.name, reader, layers)

    def _reader(self) -> Reader | None:
        if not self.reader:
            return None
        missing = [home for home in ("unit", "read") if home not in self.reader]
        if missing:
            named = ", ".join(part.name for part in self.reader.values())
            known = ", ".join(catalogue.parts(missing[0]))
            raise RecipeError(f"the reader {named!r} has no {missing[0]}; it needs one of {known}")
        parts = {home: catalogue.part(name)() for home, name in readers.DEFAULTS.items()} | self.reader
        return Reader(**parts)

    def _code(self) -> Any:
        if not self.transforms:
            return self.code
        if self.code is None:
            first = self.transforms[0].name
            raise RecipeError(
                f"{first} changes what a code is given, and there is no code; write one behind it, such as "
                f"{first} > int4"
            )
        if isinstance(self.code, Chained):
            name = words.written(self.code)
            raise RecipeError(
                f"{self.transforms[0].name} needs a code that writes every head by itself, and {name} writes "
                "all heads together"
            )
        return Turned(tuple(self.transforms), self.code)
