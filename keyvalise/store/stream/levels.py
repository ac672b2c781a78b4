"""The levels: how wide the bins of keys and values are, from smallest to lossless.

A bin's width is a share of the root mean square of its head (of the mean-free keys before rotation, of the
mean-free values); deeper layers get wider ones. One rung down divides it by three (`ops.ladder`).
"""

from __future__ import annotations

from dataclasses import dataclass

from keyvalise.types.errors import UnknownName

WIDTHS = {"keys": 1.5, "values": 2.7}
"""Of the first rung in the middle third of the layers."""

DEPTH = (2 / 3, 1.0, 4 / 3)
"""Of the lower, middle and upper third of the layers."""

LAST = 3
"""The finest rung that a lossy code has."""


@dataclass(frozen=True, slots=True)
class Level:
    """Rungs of keys and of values; is_exact: whatever they lost follows."""

    name: str
    keys: int
    values: int
    is_exact: bool = False

    def rung(self, kind: str) -> int:
        """Of "keys" or "values"."""
        return self.keys if kind == "keys" else self.values


_ALL = (
    Level("smallest", 0, 0),
    Level("small", 1, 0),
    Level("medium", 1, 1),
    Level("large", 2, 2),
    Level("lossless", 2, 2, True),
)

LEVELS = {level.name: level for level in _ALL}
"""By name, from the smallest."""


def find(name: str) -> Level:
    """A level by its name.

    Raises   UnknownName
    """
    if name not in LEVELS:
        raise UnknownName("level", name, LEVELS)
    return LEVELS[name]


def chain(name: str) -> tuple[Level, ...]:
    """All levels up to this one."""
    find(name)
    names = list(LEVELS)
    return _ALL[: names.index(name) + 1]


def widths(layer: int, n_layers: int) -> tuple[float, float]:
    """The bins of the first rung in a layer, keys and values, as shares of a head's root mean square."""
    grade = DEPTH[min(2, 3 * layer // max(n_layers, 1))]
    return WIDTHS["keys"] * grade, WIDTHS["values"] * grade
