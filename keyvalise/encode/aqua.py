"""What a layer holds is foretold from the layer below; only the error is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import grid
from keyvalise.types.argument import arg, asset
from keyvalise.types.code import Below, Side
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry

NAMES = {2: "two", 3: "three", 4: "four"}
"""Grids by bits per number: 4, 6 or 8 for every pair."""


@dataclass(frozen=True, slots=True)
class AquaEncode:
    """Keys are foretold from the keys of the layer below, values from the keys of their own layer and the
    values of the one below, all as they are read again; the error is mixed and written pair by pair.

    Shapes     keys [N, H, D], values [N, H, Dv] → "keys" uint8 [N, W], "scales_keys" float16 [N], values
               likewise; assets: predictors "keys" [L, H·D, H·D + 1], "values" [L, H·Dv, H·D + H·Dv + 1], the
               last column is added; grids "two", "three", "four" [n, 2]
    Formula    k̃ = A·k̂_below + a, k̂ = k̃ + Q(k − k̃); ṽ = B·[k̂; v̂_below] + b, v̂ = ṽ + Q(v − ṽ); Q see ops.grid
    Units      residual: the most tokens that stay raw;  first: bits in the lowest layer, which only knows the
               mean
    Cost       bits/8 bytes per number and 4 bytes per token; N·(H·D)² time to write and at every read, which
               holds one layer whole
    Needs      one kept set for all heads of all layers; attention of our own
    Phase      once per token, when it leaves the raw tail in all layers
    Reduces to the grid code around the mean where the predictors are zero; raw for residual ≥ tokens
    Differs    the lowest layer has a mean. The scale of a row is the one that errs least, not its norm. First
               tokens are coded like others
    Paper      Shutova et al. 2025, arXiv 2501.19392         Confidence  official code
    """

    bits: int = arg(2, choices=tuple(NAMES), doc="bits per number above the lowest layer")
    first: int = arg(4, choices=tuple(NAMES), doc="bits per number in the lowest layer")
    residual: int = arg(128, low=0, doc="most tokens per kv head that stay raw")
    predictors: str = asset("aquakv", "what foretells a layer from the one below", kind="predictors")
    grids: str = asset("grids", "points for pairs of numbers", kind="grids")

    name: ClassVar[str] = "aquakv"
    room: ClassVar[str] = "encode"
    needs: ClassVar[frozenset[str]] = frozenset({"keys", "values", "lse", "rope:static", "sets:model"})
    gives: ClassVar[frozenset[str]] = frozenset()
    takes: ClassVar[frozenset[str]] = frozenset()
    side: ClassVar[Side] = "pre"
    group: ClassVar[int] = 1

    @property
    def asked_for(self) -> Mapping[str, int | float | bool | str]:
        return {"bits": self.bits, "first": self.first}

    def check(self, geometry: Geometry) -> None:
        """Any head fits."""

    def bytes_per_entry(self, geometry: Geometry) -> float:
        layers, heads = geometry.n_layers, geometry.n_kv_heads
        dims = (heads * geometry.key_dim, heads * geometry.value_dim)
        low, high = (sum(grid.width(dim, 4**n) + 2 for dim in dims) for n in (self.first, self.bits))
        return (low + (layers - 1) * high) / layers / heads

    def group_bytes(self, geometry: Geometry) -> int:
        return 0

    def write(self, env: Env, keys: Tensor, values: Tensor, below: Below | None) -> dict[str, Tensor]:
        k, v, points = keys.flatten(1).float(), values.flatten(1).float(), self._points(env)
        guess = self._told(env, "keys", below and below[0], k)
        of_k, scales_k = grid.write(k - guess, points)
        read = guess + grid.read(of_k, scales_k, points, k.shape[1])
        of_v, scales_v = grid.write(v - self._told(env, "values", below and below[1], v, read), points)
        return {"keys": of_k, "values": of_v, "scales_keys": scales_k, "scales_values": scales_v}

    def read(self, env: Env, codes: Mapping[str, Tensor], below: Below | None) -> Below:
        shape, points = env.geometry, self._points(env)
        n_heads = shape.n_kv_heads
        k = grid.read(codes["keys"], codes["scales_keys"], points, n_heads * shape.key_dim)
        v = grid.read(codes["values"], codes["scales_values"], points, n_heads * shape.value_dim)
        k = k + self._told(env, "keys", below and below[0], k)
        v = v + self._told(env, "values", below and below[1], v, k)
        return k.unflatten(1, (n_heads, -1)), v.unflatten(1, (n_heads, -1))

    def _points(self, env: Env) -> Tensor:
        return env.fixed[self.grids][NAMES[self.bits if env.layer else self.first]]

    def _told(self, env: Env, name: str, below: Tensor | None, like: Tensor, *own: Tensor) -> Tensor:
        """What a layer's own keys and the layer below tell; zeros lie below the lowest."""
        given = torch.zeros_like(like) if below is None else below.flatten(1)
        weight = env.fixed[self.predictors][name][env.layer].to(like.dtype)
        return torch.addmm(weight[:, -1], torch.cat([*own, given], 1), weight[:, :-1].T)
