"""docs/composition.md: which two parts do not go together, and the sentence that says why."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import torch

from keyvalise.recipe import catalogue
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import RecipeError
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import CODING, DECIDING, HOST_GIVES, READING, ROOMS, TAPS

GEOMETRY = Geometry(4, 8, 4, 64, 64, torch.bfloat16, 64**-0.5)
GIVES = HOST_GIVES | TAPS | {"rope", "rope:static", "weight:o_proj", "weight:unembed"}
READS = {"unit": "pages", "read": "read"}
"""What a reader cannot do without."""

WALKS = {"unit": "tokens", "group": "each", "read": "read"}
"""The same where every entry is asked, or a graph of them is walked."""

INTRO = """# What goes together

Any score goes with any rescorers, any allocator, any select, any act, any transform, any code and any way
to read, or is refused when the recipe is built. This page tries every two parts of different rooms, and every
two rescorers in both orders, in a chain whose other parts are the defaults (`window`, `uniform`, `top`,
`drop`, no code; `int4` behind a transform alone; `pages` and `read` where one reads), on a model with rotary
positions and 4 kv heads of 64.
"""


def least(reader: Collection[str]) -> dict[str, str]:
    """What a reader with these parts cannot do without, by room."""
    return WALKS if {"graph", "keys"} & {*reader} else READS


def text(*names: str) -> str:
    """A recipe with these parts in river order, the first score that it needs before them."""
    rooms = {name: catalogue.room(name) for name in names}
    chain = sorted(names, key=lambda name: ROOMS.index(rooms[name]))
    score = [] if "score" in rooms.values() else ["window"]
    code = [name for name in chain if rooms[name] in CODING]
    reader = [name for name in chain if rooms[name] in READING]
    stage = " > ".join([*score, *(name for name in chain if rooms[name] in DECIDING)])
    if code and rooms[code[-1]] == "transform":
        code.append("int4")
    named = {rooms[name] for name in reader}
    reader += [name for room, name in least(reader).items() if named and room not in named]
    is_staged = not reader or bool({*rooms.values()} & {*DECIDING})
    items = [f"at prompt: {stage} @ 20%"] if is_staged else []
    return "; ".join(items + [" > ".join(item) for item in (code, reader) if item])


def pairs() -> list[tuple[str, str]]:
    """Two parts of different rooms, or two rescorers in this order."""
    names = {room: catalogue.parts(room) for room in ROOMS}
    mixed = [
        pair for a, b in itertools.combinations(ROOMS, 2) for pair in itertools.product(names[a], names[b])
    ]
    return mixed + list(itertools.permutations(names["rescore"], 2))


def refused() -> dict[tuple[str, str], str]:
    """Pair → the sentence."""
    found = {}
    for pair in pairs():
        try:
            compose(Recipe.parse(text(*pair)), GEOMETRY, GIVES)
        except RecipeError as error:
            found[pair] = str(error)
    return found


def page() -> str:
    """The page."""
    no, n = refused(), len(pairs())
    lines = [INTRO, f"{n - len(no)} of {n} pairs build; {len(no)} ({len(no) / n:.1%}) are refused:\n"]
    lines += ["| first | second | why not |", "|---|---|---|"]
    lines += [f"| `{a}` | `{b}` | {why} |" for (a, b), why in no.items()]
    return "\n".join(lines) + "\n"
