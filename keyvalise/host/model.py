"""What a model is, as far as its keys and values go: its shapes, its layers, its rotary positions.

The only place that looks into a model. Whatever it cannot recognise it reports; it never guesses.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from keyvalise.ops import rope as ops
from keyvalise.types.errors import UnsupportedModel
from keyvalise.types.geometry import Geometry, Rope


def text_config(model: Any) -> Any:
    """The configuration of the part of a model that holds keys and values."""
    return model.config.get_text_config(decoder=True)


def host_layers(model: Any) -> list[Any]:
    """The cache layers that transformers itself would make for this model."""
    return list(DynamicCache(config=model.config).layers)


def handled(layers: Sequence[Any]) -> tuple[int, ...]:
    """The layers whose cache grows with the context; sliding and recurrent ones stay as the host made
    them.
    """
    return tuple(i for i, layer in enumerate(layers) if type(layer) is DynamicLayer)


Seam = Literal["handle", "latent", "dense"]


def seam_of(model: Any) -> Seam:
    """How a model's attention treats what `update` returns.

    "handle"  passes it on to the attention interface untouched
    "latent"  expands it before (latent attention)
    "dense"   an older design without the interface, which wants plain tensors and its own masks
    """
    seams = {_seam(_forward(module)) for module in attention_modules(model)}
    return "dense" if "dense" in seams or not seams else "latent" if "latent" in seams else "handle"


def _forward(module: Any) -> str:
    kind: Any = type(module)
    return _source(kind)


@functools.cache
def _source(kind: Any) -> str:
    """The text of a module class's forward; reading it is slow, and it never changes."""
    return inspect.getsource(kind.forward)


def _seam(source: str) -> Seam:
    if "ALL_ATTENTION_FUNCTIONS" not in source:
        return "dense"
    after = source.split(".update(", 1)[1].split("attention_interface", 1)[0]
    return "latent" if "expand_kv" in after or "kv_b_proj" in after else "handle"


def attention_modules(model: Any) -> list[torch.nn.Module]:
    """Every module that bears a layer number and updates a cache itself."""
    found = [module for module in model.modules() if isinstance(getattr(module, "layer_idx", None), int)]
    return [module for module in found if re.search(r"(past\w*|cache)\.update\(", _forward(module))]


def device_of(model: Any, layer: int) -> torch.device:
    """Where a layer computes."""
    for module in model.modules():
        weight = next(module.parameters(), None) if getattr(module, "layer_idx", None) == layer else None
        if weight is not None and not weight.is_meta:
            return weight.device
    device: torch.device = model.device
    return device


def rope_of(model: Any, geometry: Geometry, layer: int) -> Rope | None:
    """Rotary data of one layer, or None where the model has no rotary positions.

    The layout is found by turning probe vectors with the model's own function and comparing.

    Raises   UnsupportedModel where the model turns keys in a way that is neither of the two known layouts
    """
    rotary = _rotary_module(model)
    if rotary is None:
        return None
    modules: dict[Any, torch.nn.Module] = {module.layer_idx: module for module in attention_modules(model)}
    if not getattr(modules[layer], "use_rope", True):
        return None
    apply = getattr(sys.modules[type(modules[layer]).__module__], "apply_rotary_pos_emb", None)
    if apply is None:
        raise UnsupportedModel(f"{type(model).__name__} turns its keys in a way that is not known here")
    cos, sin = _angles(rotary, model, layer)
    frequencies = _frequencies(rotary, text_config(model), layer).detach().float().cpu()
    probe = torch.randn(
        1, 1, cos.shape[1], 2 * frequencies.numel(), generator=torch.Generator().manual_seed(0)
    )
    turned = apply(probe, probe, cos, sin)[1]
    kind = getattr(rotary, "rope_type", "default")
    kind = kind if isinstance(kind, str) else "default"
    scaling = float(getattr(rotary, "attention_scaling", 1.0) or 1.0)
    for is_interleaved in (False, True):
        rope = Rope(frequencies, is_interleaved, scaling, kind not in ("dynamic", "longrope"))
        if torch.allclose(ops.apply(probe, torch.arange(probe.shape[2]), rope), turned, atol=1e-4):
            return rope
    raise UnsupportedModel(
        f"{type(model).__name__} turns its keys in a layout that is neither halves nor pairs"
    )


OUTPUT = ("o_proj", "out_proj", "dense", "c_proj")
"""What attention modules call the projection of their output."""


def weights_of(model: Any, layer: int, names: tuple[str, ...], geometry: Geometry) -> dict[str, Tensor]:
    """The weights of one layer that parts ask for, as views; what cannot be recognised is left out.

    Shapes   "o_proj" [Hq, Dv, E];  "unembed" [V, E], the same in every layer
    """
    found = {"o_proj": _output(model, layer, geometry) if "o_proj" in names else None}
    if "unembed" in names:
        found["unembed"] = _plain(model.get_output_embeddings())
    return {name: weight for name, weight in found.items() if weight is not None}


def _output(model: Any, layer: int, geometry: Geometry) -> Tensor | None:
    module = next(found for found in attention_modules(model) if found.layer_idx == layer)
    projection = next((getattr(module, name) for name in OUTPUT if getattr(module, name, None)), None)
    weight = _plain(projection)
    if weight is None:
        return None
    # transformers' Conv1D holds [in, out], a linear layer [out, in].
    rows = weight if type(projection).__name__ == "Conv1D" else weight.t()
    inner = geometry.n_query_heads * geometry.value_dim
    return rows.unflatten(0, (-1, geometry.value_dim)) if rows.shape[0] == inner else None


def _plain(module: Any) -> Tensor | None:
    """A module's weight [a, b] of floating-point numbers, or None where it is stored in another way."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        return None
    return weight.detach()


def _rotary_module(model: Any) -> torch.nn.Module | None:
    for name, module in model.named_modules():
        if name.endswith("rotary_emb") and any("inv_freq" in key for key, _ in module.named_buffers()):
            return module
    return None


def _layer_type(config: Any, layer: int) -> str | None:
    types = getattr(config, "layer_types", None)
    return types[layer] if types else None


def _frequencies(rotary: torch.nn.Module, config: Any, layer: int) -> Tensor:
    buffers = dict(rotary.named_buffers())
    named = buffers.get(f"{_layer_type(config, layer)}_inv_freq")
    return buffers["inv_freq"] if named is None else named


def _angles(rotary: torch.nn.Module, model: Any, layer: int) -> tuple[Tensor, Tensor]:
    positions = torch.arange(7, device=model.device)[None]
    x = torch.zeros(1, 7, 1, device=model.device)
    arguments = {}
    if "layer_type" in inspect.signature(rotary.forward).parameters:
        arguments["layer_type"] = _layer_type(text_config(model), layer)
    cos, sin = rotary(x, positions, **arguments)
    return cos.float().cpu(), sin.float().cpu()
