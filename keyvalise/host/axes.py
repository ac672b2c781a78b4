"""Assets that say what their axes are: whether a trained code's tensors are the ones that a model needs.

The header's "axes" gives every tensor's axes in words: layer (those whose cache grows), head (of keys and
values), key_dim, value_dim, token_dim (keys or values of all heads side by side), or a word of the asset's
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Geometry

FIELD = "axes"


def fitted(path: Path, made: Asset, geometry: Geometry, n_layers: int) -> Mapping[str, Tensor]:
    """The tensors, whose axes have the model's sizes and whose numbers are finite.

    Raises   AssetError where they do not
    """
    sizes = {
        "layer": n_layers,
        "head": geometry.n_kv_heads,
        "key_dim": geometry.key_dim,
        "value_dim": geometry.value_dim,
        "token_dim": geometry.n_kv_heads * geometry.key_dim,
    }
    axes = made.header[FIELD]
    if not isinstance(axes, Mapping) or set(axes) != set(made.tensors):
        raise AssetError(f"the asset {path} does not say what the axes of its tensors are")
    for name, words in axes.items():
        tensor = made.tensors[name]
        wanted = [sizes.get(word, n) for word, n in zip(words, tensor.shape, strict=False)]
        if len(words) != tensor.ndim or wanted != list(tensor.shape):
            expected = ", ".join(f"{word} {sizes[word]}" if word in sizes else word for word in words)
            raise AssetError(
                f"the asset {path} is of another model: {name} is {list(tensor.shape)}, expected [{expected}]"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise AssetError(f"the asset {path} holds a number in {name} that is not finite; make it again")
    return made.tensors
