"""Small trained assets for any model: codewords, bases and projections of random numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from keyvalise.recipe import catalogue
from keyvalise.store.asset import Asset
from keyvalise.types import argument
from keyvalise.types.geometry import Geometry

NAMES = ("pq", "rq", "commvq", "svd", "lean")
"""Parts with a trained asset; by default it bears a part's own name."""


def random(seed: int, *shape: int) -> Tensor:
    """Normal numbers, the same for the same seed and shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def asset(name: str, n_layers: int, geometry: Geometry, order: tuple[int, ...] | None = None) -> Asset:
    """The asset that this part asks for by default; `order`: of kv heads, for a model with renamed ones."""
    part = catalogue.part(name)()
    ((_, kind),) = argument.assets(part)
    dims = {"keys": geometry.key_dim, "values": geometry.value_dim}
    made = {"pq": product, "rq": residual, "commvq": commuting, "svd": basis, "lean": lean}[name](
        (n_layers, geometry.n_kv_heads), dims
    )
    renamed = list(order or range(geometry.n_kv_heads))
    axes = {key: ["layer", "head", *(f"axis {i}" for i in range(x.ndim - 2))] for key, x in made.items()}
    header = {"for": {"part": name, **part.asked_for}, "behind": "", "axes": axes}
    return Asset(str(kind), {key: x[:, renamed].contiguous() for key, x in made.items()}, header)


def predictors(n_layers: int, geometry: Geometry) -> Asset:
    """What foretells a layer from the one below, a little: all heads of a token together."""
    part = catalogue.part("aquakv")()
    wide = geometry.n_kv_heads * geometry.key_dim, geometry.n_kv_heads * geometry.value_dim
    made = {
        "keys": random(9, n_layers, wide[0], wide[0] + 1) * 0.3 / wide[0] ** 0.5,
        "values": random(10, n_layers, wide[1], sum(wide) + 1) * 0.3 / sum(wide) ** 0.5,
    }
    axes = {name: ["layer", "output", "input"] for name in made}
    header = {"for": {"part": "aquakv", **part.asked_for}, "behind": "", "axes": axes}
    return Asset("predictors", {name: x.half() for name, x in made.items()}, header)


def product(heads: tuple[int, int], dims: dict[str, int]) -> dict[str, Tensor]:
    """Books of as many pieces as the head allows: 16 numbers of a small head are 16 pieces."""
    return {
        name: random(i, *heads, math.gcd(16, dim), 256, dim // math.gcd(16, dim)).half()
        for i, (name, dim) in enumerate(dims.items())
    }


def residual(heads: tuple[int, int], dims: dict[str, int]) -> dict[str, Tensor]:
    """Stages of falling size."""
    size = 0.7 ** torch.arange(8)[:, None, None]
    return {
        name: (size * random(2 + i, *heads, 8, 256, dim)).half() for i, (name, dim) in enumerate(dims.items())
    }


def commuting(heads: tuple[int, int], dims: dict[str, int]) -> dict[str, Tensor]:
    """Stages of falling size, and signed sums whose bits weigh half as much as those before."""
    stages, value = max(1, dims["keys"] * 2 // 12), dims["values"]
    size = 0.4 ** torch.arange(stages)[:, None, None]
    made = {"keys": (size * random(9, *heads, stages, 64, dims["keys"])).half()}
    for bits in (1, 2):
        planes = [torch.linalg.qr(random(10 + i, *heads, value, value)).Q for i in range(bits)]
        made[f"values_{bits}"] = torch.cat([plane / 2**i for i, plane in enumerate(planes)], 2).half()
    for i, (name, dim) in enumerate(dims.items()):
        made[f"middle_{name}"] = (0.1 * random(12 + i, *heads, dim)).half()
    made["gain_keys"] = torch.full(heads, 1.1).half()
    pairs = 1 + 0.2 * random(14, *heads, -(-dims["keys"] // 2)).abs()
    return {**made, "scale_keys": torch.cat([pairs, pairs], -1)[..., : dims["keys"]].half()}


def basis(heads: tuple[int, int], dims: dict[str, int]) -> dict[str, Tensor]:
    """Random rotations around random means."""
    made = {}
    for i, (name, dim) in enumerate(dims.items()):
        made[f"{name}_basis"] = torch.linalg.qr(random(4 + i, *heads, dim, dim)).Q
        made[f"{name}_mean"] = 0.1 * random(6 + i, *heads, dim)
    return made


def lean(heads: tuple[int, int], dims: dict[str, int]) -> dict[str, Tensor]:
    """A map and its inverse, so that the full rank changes nothing."""
    made = basis(heads, dims)
    into = made.pop("keys_basis") * (
        0.5 + torch.rand(dims["keys"], generator=torch.Generator().manual_seed(8))
    )
    return {**made, "of_keys": into, "of_queries": torch.linalg.inv(into).mT}
