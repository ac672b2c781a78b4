"""A recipe in words: its parts and their arguments, what it needs, what a token costs, who thought of it."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import catalogue, cite, words
from keyvalise.recipe.turned import parts_of
from keyvalise.types.geometry import Geometry

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

_SECTION = re.compile(
    r"(Shapes|Formula|Units|Cost|Needs|Phase|Scope|Reduces to|Raises|Differs|Paper|Confidence)\s+(.*)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One part of a recipe."""

    stage: str
    room: str
    name: str
    arguments: str
    does: str
    needs: tuple[str, ...]
    paper: str


def rows(recipe: Recipe) -> list[Row]:
    """The parts of a recipe in river order, with every argument."""
    found = [_row(", ".join(map(str, stage.when)), part) for stage in recipe.stages for part in stage.parts]
    found += [] if recipe.code is None else [_row("settle", part) for part in parts_of(recipe.code)]
    return found + ([] if recipe.reader is None else [_row("attend", part) for part in recipe.reader.parts])


def _row(stage: str, part: Any) -> Row:
    arguments = ", ".join(
        f"{words.word(f)}={words.spoken(getattr(part, f.name))}" for f in words.fields(part)
    )
    essay = sections(inspect.getdoc(type(part)) or "")
    return Row(
        stage, part.room, part.name, arguments, essay[""], tuple(sorted(part.needs)), essay.get("Paper", "")
    )


def sections(doc: str) -> dict[str, str]:
    """A docstring by its heads; the sentence that opens it stands under the empty head.

    Several heads may share a line when three spaces part them.
    """
    found, head = {"": ""}, ""
    for line in doc.splitlines():
        if not line.strip():
            head = head if head else "lead"
            continue
        for piece in re.split(r"\s{3,}(?=Paper\s|Confidence\s|Scope\s|Cost\s)", line):
            match = _SECTION.match(piece)
            head, text = (match[1], match[2]) if match else (head, piece)
            found[head] = f"{found.get(head, '')} {text.strip()}".strip()
    return found


def facts(recipe: Recipe, geometry: Geometry) -> dict[str, str]:
    """What a recipe costs and needs on a model of this geometry, and whom it cites."""
    per_token = sizes.slope(recipe, geometry)
    full = geometry.n_layers * geometry.token_bytes
    needs = sorted(frozenset().union(*(part.needs for part in recipe.parts)))
    return {
        "recipe": str(recipe),
        "bytes per token": f"{per_token:.6g} of {full} ({100 * per_token / full:.3g}%)",
        "needs": ", ".join(needs) or "nothing",
        "cites": ", ".join(cite.keys(recipe)) or "nothing",
    }


def describe(recipe: Recipe) -> str:
    """The recipe in normal form, then a line for every part."""
    parts = [f"  {row.room:<9} {row.name}({row.arguments})  {row.does}" for row in rows(recipe)]
    return "\n".join([str(recipe), *parts])


def essay(name: str) -> dict[str, str]:
    """The essay of a published system, by its heads."""
    return sections(inspect.cleandoc(catalogue.recipe(name).essay))
