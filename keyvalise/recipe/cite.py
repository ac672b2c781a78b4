"""What a recipe owes to whom.

A published system counts as used when all parts that make it up are there, with its profiles, whatever their
other arguments; a part that belongs to none of those is owed to the smallest system that has it. What
everybody uses owes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from keyvalise.recipe import bibliography, catalogue, text
from keyvalise.recipe import reader as readers
from keyvalise.recipe.stage import Fields
from keyvalise.recipe.turned import parts_of
from keyvalise.types.argument import assets

if TYPE_CHECKING:
    from keyvalise.recipe.object import Recipe

COMMON = frozenset({"mean", "max", "uniform", "top", "drop", "random", "read", *readers.DEFAULTS.values()})
"""Parts that everybody uses."""


def bibtex(recipe: Recipe) -> str:
    """BibTeX entries of all the recipe uses, in the order of the catalogue; empty where it owes nothing."""
    return "\n\n".join(bibliography.entry(key) for key in keys(recipe))


def keys(recipe: Recipe) -> tuple[str, ...]:
    """Keys of the bibliography, each once."""
    own = _ideas(recipe.parts)
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
        parts = [part for stage in fields.stages for part in stage.parts]
        parts += [] if fields.code is None else parts_of(fields.code)
        found[name] = _ideas([*parts, *([] if fields.reader is None else fields.reader.parts)])
    return found


def _ideas(parts: Iterable[Any]) -> frozenset[str]:
    """The names of parts, and with them those of their profiles, in which some systems alone differ."""
    found = {part.name: assets(part) for part in parts if part.name not in COMMON}
    profiles = {f"{name} by {profile}" for name, named in found.items() for profile, _ in named}
    return frozenset(found) | profiles
