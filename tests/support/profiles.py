"""Small profiles for any model under every name that a recipe of the catalogue asks for.

They lie where a user's own would, in the folder that KEYVALISE_HOME names, which is the test run's own.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import assets
from keyvalise.host import model as models
from keyvalise.store import asset
from keyvalise.store.asset import Asset
from keyvalise.types.geometry import Geometry
from tests.support import books

QUERY = ("retrieval", "retrieval_reasoning", "semantic_retrieval", "evaluators", "heads", "even")
KV = ("duo", "rlkv", "rlkv_surrogate", "razor")
LAYERS = {"eviction_error": "layers", "prefix": "dropped", "even_error": "layers", "even_drops": "dropped"}
"""Names by what they hold: scores of query heads, of kv heads, of layers; `even` ones are all alike."""


def numbers(name: str, *shape: int) -> Tensor:
    """Numbers between 0.1 and 1, the same for a name and shape at every call, no two alike unless `even`."""
    if name.startswith("even"):
        return torch.full(shape, 0.5)
    size = int(torch.tensor(shape).prod())
    order = torch.randperm(size, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    return (0.1 + 0.9 * (order + 1) / size).view(shape)


def made(name: str, n_layers: int, geometry: Geometry, order: tuple[int, ...] | None = None) -> Asset:
    """The profile of this name; `order`: of kv heads, for a model whose heads were renamed."""
    if name in LAYERS:
        return Asset(LAYERS[name], {"layers": 0.7 * numbers(name, n_layers)}, {"granularity": "layer"})
    n_kv = geometry.n_kv_heads
    scores = numbers(name, n_layers, geometry.n_query_heads if name in QUERY else n_kv)
    if name == "evaluators":
        # A few heads of one layer, which is not the last where there are several.
        layer = (n_layers - 1) // 2
        cut = scores[layer].sort(descending=True).values[min(2, scores.shape[1] - 1)]
        alone = torch.arange(n_layers)[:, None] == layer
        scores = scores * (alone & (scores >= cut))
    grouped = scores.unflatten(1, (n_kv, -1))[:, list(order or range(n_kv))]
    return Asset("heads", {"heads": grouped.flatten(1)}, {"granularity": "q" if name in QUERY else "kv"})


def retaining(n_layers: int, geometry: Geometry, order: tuple[int, ...] | None = None) -> Asset:
    """Retaining heads of random numbers; `order` as above."""
    n_query, n_kv, dim = geometry.n_query_heads, geometry.n_kv_heads, geometry.key_dim
    noise, renamed = torch.Generator().manual_seed(11), list(order or range(n_kv))
    sizes = (n_query * dim, n_kv * dim, n_kv * geometry.value_dim)
    read = torch.randn(n_layers, 24, sum(sizes), generator=noise) / sum(sizes) ** 0.5
    columns = [block.unflatten(2, (n_kv, -1))[:, :, renamed].flatten(2) for block in read.split(sizes, 2)]
    told = torch.randn(n_layers, n_kv, 24, generator=noise)[:, renamed]
    return Asset("retaining", {"fc1": torch.cat(columns, 2), "fc2": told}, {"activation": "silu"})


def classes(n_tokens: int) -> Asset:
    """A few tokens of any text are special, some are punctuation."""
    ids = torch.arange(n_tokens)
    kinds = torch.where(ids % 61 == 7, 1, torch.where(ids % 11 == 4, 2, 0))
    return Asset("classes", {"classes": kinds.to(torch.int8)})


def give(model: Any, order: tuple[int, ...] | None = None) -> Any:
    """The model, for which all profiles are kept from now on."""
    is_latent = models.seam_of(model) == "latent"
    geometry = Geometry.of(models.text_config(model), is_latent=is_latent)
    folder, n_layers = assets.home() / assets.fingerprint(model), len(models.host_layers(model))
    handled = len(models.handled(models.host_layers(model)))
    asset.write(folder / "locret.safetensors", retaining(handled, geometry, order))
    asset.write(folder / "classes.safetensors", classes(models.text_config(model).vocab_size))
    asset.write(folder / "aquakv.safetensors", books.predictors(handled, geometry))
    for name in books.NAMES:
        asset.write(folder / f"{name}.safetensors", books.asset(name, handled, geometry, order))
    for name in (*QUERY, *KV, *LAYERS):
        asset.write(folder / f"{name}.safetensors", made(name, n_layers, geometry, order))
    return model
