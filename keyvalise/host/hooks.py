"""Hooks on a model's trunk that look for our cache in the call, and touch nothing else.

    before(cache, call)            may answer keywords that replace those of the call
    after(cache, output)           sees what the trunk returned

A purpose is installed once per model; `uninstall` removes all of them.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

_installed: weakref.WeakKeyDictionary[Any, dict[str, list[Any]]] = weakref.WeakKeyDictionary()

Before = Callable[[Any, Mapping[str, Any]], dict[str, Any]]
After = Callable[[Any, Any], None]


def install(model: Any, purpose: str, cache_type: type, before: Before, after: After) -> None:
    """Call `before` and `after` around every call of the trunk that carries a cache of this type."""
    trunk = model.base_model
    if purpose in _installed.setdefault(trunk, {}):
        return
    signature = inspect.signature(trunk.forward)

    def call_of(args: Any, kwargs: dict[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        call = signature.bind_partial(*args, **kwargs).arguments
        call = {**call, **call.get("kwargs", {})}
        cache = call.get("past_key_values")
        return (cache if isinstance(cache, cache_type) else None), call

    def ahead(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        cache, call = call_of(args, kwargs)
        return None if cache is None else (args, {**kwargs, **before(cache, call)})

    def behind(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        cache, _ = call_of(args, kwargs)
        if cache is not None:
            after(cache, output)

    _installed[trunk][purpose] = [
        trunk.register_forward_pre_hook(ahead, with_kwargs=True),
        trunk.register_forward_hook(behind, with_kwargs=True),
    ]


def uninstall(model: Any) -> None:
    """Remove the hooks of every purpose."""
    for hooks in _installed.pop(model.base_model, {}).values():
        for hook in hooks:
            hook.remove()
