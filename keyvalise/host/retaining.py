"""Retaining heads for a model: whether an asset's matrices are the ones that its keys and values need.

fc1 [L, E, Hq·D + H·D + H·Dv]      fc2 [L, H, E]      L: the layers whose cache grows; header: "activation"
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from keyvalise.ops import retain
from keyvalise.store.asset import Asset
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Geometry

KIND = "retaining"


def n_inputs(geometry: Geometry) -> int:
    """Numbers that a head reads of one token."""
    keys = (geometry.n_query_heads + geometry.n_kv_heads) * geometry.key_dim
    return keys + geometry.n_kv_heads * geometry.value_dim


def fitted(path: Path, made: Asset, geometry: Geometry, n_layers: int) -> Mapping[str, Tensor]:
    """The two matrices of every handled layer, and an empty tensor that bears the activation's name.

    Raises   AssetError where a matrix is missing, transposed, of another model or not finite
    """
    word = str(made.header.get("activation"))
    if word not in retain.ACTIVATIONS:
        known = ", ".join(retain.ACTIVATIONS)
        raise AssetError(f"the retaining heads {path} name the activation {word}; it must be one of {known}")
    fc1, fc2 = (made.tensors.get(name) for name in ("fc1", "fc2"))
    if fc1 is None or fc2 is None or fc1.ndim != 3 or fc2.ndim != 3:
        raise AssetError(f"the retaining heads {path} must hold fc1 [L, E, I] and fc2 [L, H, E]")
    _check_shapes(path, (fc1, fc2), geometry, n_layers)
    for name, matrix in (("fc1", fc1), ("fc2", fc2)):
        if not matrix.is_floating_point() or not bool(torch.isfinite(matrix).all()):
            raise AssetError(
                f"the retaining heads {path} hold a number in {name} that is not finite; train them again"
            )
    return {"fc1": fc1, "fc2": fc2, word: torch.empty(0)}


def _check_shapes(path: Path, heads: tuple[Tensor, Tensor], geometry: Geometry, n_layers: int) -> None:
    n_read, n_heads = n_inputs(geometry), geometry.n_kv_heads

    def fits(fc1: Tensor, fc2: Tensor) -> bool:
        hidden = fc1.shape[1]
        return (*fc1.shape, *fc2.shape) == (n_layers, hidden, n_read, n_layers, n_heads, hidden)

    fc1, fc2 = heads
    if fits(fc1, fc2):
        return
    got = f"fc1 {list(fc1.shape)} and fc2 {list(fc2.shape)}"
    if fits(fc1.mT, fc2) or fits(fc1, fc2.mT) or fits(fc1.mT, fc2.mT):
        raise AssetError(
            f"the retaining heads {path} are transposed: fc1 must be [L, E, {n_read}] and fc2 "
            f"[L, {n_heads}, E], got {got}"
        )
    raise AssetError(
        f"the retaining heads {path} are of another model: they hold {got}, where this one has {n_layers} "
        f"layers, {n_read} numbers per token and {n_heads} kv heads"
    )
