"""What a recipe owes to whom.

A published system counts as used when all parts that make it up are there, whatever their arguments; a part
that belongs to none of those is owed to the smallest system that has it. What everybody uses owes nothing.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from keyvalise.recipe import bibliography, catalogue, text
from keyvalise.recipe.stage import Fields

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

COMMON = frozenset({"mean", "max", "uniform", "top", "drop", "random"})
"""Parts that everybody uses."""


def bibtex(recipe: Recipe) -> str:
    """BibTeX entries of all the recipe uses, in the order of the catalogue; empty where it owes nothing."""
    return "\n\n".join(bibliography.entry(key) for key in keys(recipe))


def keys(recipe: Recipe) -> tuple[str, ...]:
    """Keys of the bibliography, each once."""
    own = frozenset(part.name for part in recipe.parts) - COMMON
    systems = signatures()
    used = [name for name, parts in systems.items() if parts and parts <= own]
    for part in sorted(own - frozenset().union(*(systems[name] for name in used))):
        homes = [name for name, parts in systems.items() if part in parts]
        used += sorted(homes, key=lambda name: len(systems[name]))[:1]
    ordered = sorted(set(used), key=catalogue.RECIPES.index)
    return tuple(dict.fromkeys(key for name in ordered for key in catalogue.recipe(name).papers))


@cache
def signatures() -> dict[str, frozenset[str]]:
    """recipe → the parts that make it up, common ones left out."""
    found = {}
    for name in catalogue.recipes():
        fields = text.parse(catalogue.recipe(name).text) if catalogue.recipe(name).text else Fields()
        parts = {part.name for stage in fields.stages for part in stage.parts}
        parts |= {fields.code.name} if fields.code is not None else set()
        found[name] = frozenset(parts) - COMMON
    return found
