"""Keyvalise packs the keys and values of transformer language models and shows what that costs and loses.

    cache = keyvalise.KVCache(model, "snapkv @ 25%")
    model.generate(**inputs, past_key_values=cache)

Names are imported when they are asked for, so that `keyvalise --help` need not load torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyvalise.api import (
        KVCache,
        Recipe,
        Store,
        answer,
        detach,
        parts,
        recipes,
        reference,
        shorten,
        tasks,
    )

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
__version__ = "0.1.0"

# Two public functions bear the name of a room. Python binds a room to the package when it is first imported;
# importing both here and letting go of the names leaves them to `__getattr__` for good.
for _room in ("recipes", "reference"):
    if importlib.util.find_spec(f"keyvalise.{_room}"):
        importlib.import_module(f"keyvalise.{_room}")
        del globals()[_room]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'keyvalise' has no attribute {name!r}")
    return getattr(importlib.import_module("keyvalise.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
