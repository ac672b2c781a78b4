"""Recipes in which every two parts of different rooms meet at least once, if the pair can be built at all."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

from keyvalise import Recipe
from keyvalise.recipe import catalogue
from keyvalise.types.errors import RecipeError
from keyvalise.types.part import READING, ROOMS

NOTHING = {
    "score": "window",
    "rescore": "",
    "allocate": "uniform",
    "select": "top",
    "act": "drop",
    "transform": "",
    "encode": "",
    **dict.fromkeys(READING, ""),
}
"""What stands in a room that nobody chose; rescore, those of codes and those of reading may be empty."""

Row = dict[str, str]
Written = Callable[[Row], str]


def options() -> dict[str, list[str]]:
    """Every part of every room, and nothing where a room may be empty."""
    return {room: [*catalogue.parts(room), *([""] if NOTHING[room] == "" else [])] for room in ROOMS}


def pairs_of(row: Row) -> set[tuple[str, str]]:
    """The pairs of parts that meet in a row."""
    return set(itertools.combinations([row[room] for room in ROOMS], 2))


def rows(written: Written, is_built: Callable[[Recipe], bool], seed: int = 0) -> Iterator[Row]:
    """Rows that cover all pairs that can be built; greedy, the same at every call.

    written    a row as the text of a recipe;  is_built: whether a model takes the recipe
    """
    known: dict[str, bool] = {}

    def builds(row: Row) -> bool:
        text = written(row)
        if text not in known:
            try:
                known[text] = is_built(Recipe.parse(text))
            except RecipeError:
                known[text] = False
        return known[text]

    lots, choices = random.Random(seed), options()
    open_pairs = {
        pair
        for a, b in itertools.combinations(ROOMS, 2)
        for pair in itertools.product(choices[a], choices[b])
    }
    where = {name: room for room in ROOMS for name in choices[room] if name}
    while open_pairs:
        first, second = min(open_pairs)
        homes = _homes(first, second, where)
        # Some parts want one kept set per layer, which a chain has where nobody decides otherwise.
        bases = (NOTHING, {**NOTHING, "rescore": "layer"})
        found = next(filter(builds, ({**base, **home} for base in bases for home in homes)), None)
        open_pairs.discard((first, second))
        if found is None:
            continue
        free = [room for room in ROOMS if found[room] not in (first, second) or not found[room]]
        lots.shuffle(free)
        for room in free:
            found = _best(found, room, choices[room], open_pairs, builds)
        open_pairs -= pairs_of(found)
        yield found


def _homes(first: str, second: str, where: dict[str, str]) -> list[Row]:
    """The rooms that a pair may stand in; an empty word stands in either room that may be empty."""
    free = [room for room in ROOMS if NOTHING[room] == ""]
    return [
        {a: first, b: second}
        for a in ([where[first]] if first else free)
        for b in ([where[second]] if second else free)
        if ROOMS.index(a) < ROOMS.index(b)
    ]


def _best(
    row: Row, room: str, names: list[str], wanted: set[tuple[str, str]], builds: Callable[[Row], bool]
) -> Row:
    """The row with the part in this room that meets most others for the first time."""
    tried = sorted(({**row, room: name} for name in names), key=lambda new: -len(pairs_of(new) & wanted))
    return next(filter(builds, tried), row)
