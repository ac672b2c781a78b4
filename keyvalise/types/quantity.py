"""Small value types that appear as arguments of parts: shares, budgets, layer ranges."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from keyvalise.types.errors import RecipeError

_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_BUDGET = re.compile(
    r"^(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|tok|B|KiB|MiB|GiB)(?P<prompt>\s+of\s+prompt)?$"
)


def plain(number: float) -> str:
    """The shortest decimal text of a number: 10, 2.5, 0.001."""
    text = format(Decimal(repr(float(number))).normalize(), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True, slots=True, order=True)
class Share:
    """A percentage of what the part shares out; `Share(50.0)` is written 50%."""

    percent: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "percent", float(self.percent))

    def __str__(self) -> str:
        return f"{plain(self.percent)}%"

    def of(self, whole: int) -> int:
        """The share of `whole`, rounded down."""
        return int(whole * self.percent / 100 + 1e-9)


Amount = int | Share


def count(amount: Amount, whole: int) -> int:
    """An absolute amount as it is, a share of `whole` rounded down."""
    return amount.of(whole) if isinstance(amount, Share) else int(amount)


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be held: a share of the full cache's bytes, bytes, or tokens per kv head and layer.

    Units   `amount` is percent for "%", bytes for "B", tokens per kv head and layer for "tok"
    """

    amount: float
    unit: Literal["%", "B", "tok"]
    of_prompt: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "amount", float(self.amount))
        if self.amount <= 0:
            raise RecipeError(f"a budget must be positive, got {self}")
        if self.unit == "%" and self.amount > 100:
            raise RecipeError(f"a budget of {self} is more than the full cache; write at most 100%")
        if self.of_prompt and self.unit != "%":
            raise RecipeError(f"'of prompt' goes with a percentage, got {self}")

    @staticmethod
    def parse(text: str) -> Budget:
        """Read '10%', '20% of prompt', '512MiB' or '128tok'."""
        match = _BUDGET.match(text.strip())
        if match is None:
            raise RecipeError(f"cannot read the budget {text!r}; write 10%, 20% of prompt, 512MiB or 128tok")
        number, unit, prompt = float(match["number"]), match["unit"], bool(match["prompt"])
        if unit in ("%", "tok"):
            return Budget(number, unit, prompt)  # type: ignore[arg-type]
        return Budget(number * _BYTES[unit], "B", prompt)

    def __str__(self) -> str:
        if self.unit == "%":
            return f"{plain(self.amount)}%" + (" of prompt" if self.of_prompt else "")
        if self.unit == "tok":
            return f"{plain(self.amount)}tok"
        for name in ("GiB", "MiB", "KiB"):
            if self.amount % _BYTES[name] == 0:
                return f"{plain(self.amount / _BYTES[name])}{name}"
        return f"{plain(self.amount)}B"


@dataclass(frozen=True, slots=True)
class Layers:
    """A range of layers in Python's slice notation: `2..`, `..8`, `2..8`, `::3`."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    @staticmethod
    def parse(text: str) -> Layers:
        text = text.strip()
        if match := re.fullmatch(r"::(\d+)", text):
            return Layers(step=int(match[1]))
        if match := re.fullmatch(r"(\d*)\.\.(\d*)", text):
            return Layers(int(match[1] or 0), int(match[2]) if match[2] else None)
        if re.fullmatch(r"\d+", text):
            return Layers(int(text), int(text) + 1)
        raise RecipeError(f"cannot read the layers {text!r}; write 2.., ..8, 2..8, 5 or ::3")

    def __str__(self) -> str:
        if self.step != 1:
            return f"::{self.step}"
        if self.stop == self.start + 1:
            return str(self.start)
        return f"{self.start or ''}..{self.stop if self.stop is not None else ''}"

    def __contains__(self, layer: int) -> bool:
        after = layer >= self.start and (self.stop is None or layer < self.stop)
        return after and (layer - self.start) % self.step == 0

    def of(self, n_layers: int) -> tuple[int, ...]:
        """Those of a model's layers that the range names."""
        return tuple(layer for layer in range(n_layers) if layer in self)


ALL_LAYERS = Layers()
