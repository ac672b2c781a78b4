"""A layer's memory that still lies in a file: it is read once, when anybody first touches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keyvalise.recipe.river import LayerRiver
from keyvalise.types.data import Env, Memory


def read(layer: Any) -> Memory | None:
    """What a layer holds; what was needed to read it is let go."""
    memory: Memory = layer.unread()
    del layer.unread
    return memory


def defer(layer: Any, later: Callable[[], Memory], env: Env, river: LayerRiver) -> None:
    """Let a layer begin with a memory that is read when it is touched."""
    layer.env, layer.river, layer.is_initialized, layer.unread = env, river, True, later
    del layer.memory
