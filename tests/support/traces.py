"""Everything about a model that a cache might touch."""

from __future__ import annotations

import copy
from typing import Any

import torch

import keyvalise
from tests.support.models import tiny


def state(model: Any) -> dict[str, Any]:
    """Everything about a model that a cache might touch."""
    modules = dict(model.named_modules())
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_pre_hooks_with_kwargs",
    )
    return {
        "attention": model.config._attn_implementation,
        "config": copy.deepcopy(model.config.to_dict()),
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "hooks": {name: [len(getattr(module, hook)) for hook in hooks] for name, module in modules.items()},
        "forwards": {name: type(module).forward for name, module in modules.items()},
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
    }


def assert_untouched(now: dict[str, Any], before: dict[str, Any], *, but: tuple[str, ...] = ()) -> None:
    """Every entry of two states agrees."""
    for name, value in before.items():
        if name == "weights":
            assert value.keys() == now[name].keys()
            assert all(torch.equal(now[name][key], tensor) for key, tensor in value.items())
        elif name not in but:
            assert now[name] == value, name


def fresh(family: str, attention: str | None = None) -> Any:
    """A copy of a tiny model that no cache has met, with its own attention or another."""
    keyvalise.detach(tiny(family))
    model = copy.deepcopy(tiny(family))
    if attention:
        model.set_attn_implementation(attention)
    return model
