"""The public names and where each is made; nothing else."""

from __future__ import annotations

from keyvalise.host.answer import answer
from keyvalise.host.cache import KVCache, detach
from keyvalise.host.shorten import shorten
from keyvalise.host.store import Store
from keyvalise.recipe.catalogue import parts, recipes
from keyvalise.recipe.object import Recipe
from keyvalise.reference import reference, tasks

__all__ = [
    "KVCache",
    "Recipe",
    "Store",
    "answer",
    "detach",
    "parts",
    "recipes",
    "reference",
    "shorten",
    "tasks",
]
