"""Models of random weights, caches filled without attention, and the bytes that any cache can reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rivals  # noqa: F401 (puts quantization back ends on the path before transformers looks for them)
import torch
from torch import Tensor
from transformers import AttentionInterface, DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.cache_utils import Cache, DynamicLayer

from keyvalise.host.attention import MaskInfo, Seam
from keyvalise.host.cache import KVCache


@dataclass(frozen=True)
class Shape:
    """What of a Llama matters for its cache."""

    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int
    hidden: int = 64


LARGE = Shape(1, 32, 8, 128)
"""One layer of an 8-billion-parameter Llama; projections and vocabulary are small, so that attention
dominates.
"""

SMALL = Shape(4, 8, 4, 64, 512)
"""A small whole model."""


def llama(shape: Shape, dtype: torch.dtype = torch.float32, *, seed: int = 0, attention: str = "sdpa") -> Any:
    """A Llama of this shape with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.query_heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=65536,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def tokens(n: int, *, rows: int = 1, seed: int = 0) -> Tensor:
    """Random token ids [rows, n]."""
    return torch.randint(64, (rows, n), generator=torch.Generator().manual_seed(seed))


class Unasked(Seam):
    """A call whose output nobody looks at."""

    def native(self) -> Tensor:
        return self.values.new_zeros(1).expand(*self.query.shape[:3], self.values.shape[-1])


def fill(model: Any, cache: Cache, keys: Tensor, values: Tensor) -> Any:
    """The cache with the same keys and values [B, H, N, D] in every layer, as one prompt, without
    attention.
    """
    for layer, block in enumerate(model.model.layers):
        handle, _ = cache.update(keys, values, layer)
        if isinstance(cache, KVCache):
            n_rows, _, n, dim = keys.shape
            mask = MaskInfo(n, None, True, {"batch_size": n_rows}, None)
            query = keys.new_zeros(1).expand(n_rows, model.config.num_attention_heads, n, dim)
            seam = Unasked(block.self_attn, query, keys, values, mask, {"scaling": block.self_attn.scaling})
            handle.layer.attend(seam, mask)
    return cache


def step(model: Any, cache: Any, ids: Tensor) -> Tensor:
    """One token per row; logits [B, 1, V]."""
    with torch.no_grad():
        return model(ids, past_key_values=cache, use_cache=True).logits


class Preallocated(DynamicLayer):
    """The least that one can do: keys and values in a buffer with room to grow."""

    def __init__(self, room: int):
        DynamicLayer.__init__(self)
        self.room, self.n = room, 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write behind what is there."""
        n = key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:2], n + self.room, key_states.shape[3])
            self.buffers = key_states.new_empty(shape), value_states.new_empty(shape)
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, self.n : self.n + n] = new
        self.n += n
        self.keys, self.values = (buffer[:, :, : self.n] for buffer in self.buffers)
        return self.keys, self.values


def preallocated(model: Any, room: int = 512) -> Cache:
    """A cache of such layers."""
    return Cache(layers=[Preallocated(room) for _ in range(model.config.num_hidden_layers)])


def grouped(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
) -> tuple[Tensor, None]:
    """Attention of one query per head as two matrix products, query heads folded by their kv head."""
    n_rows, n_heads, _, dim = key.shape
    folded = query.reshape(n_rows, n_heads, -1, dim)
    scores = torch.matmul(folded, key.transpose(2, 3)) * options["scaling"]
    out = torch.matmul(scores.softmax(-1, dtype=torch.float32).to(value.dtype), value)
    return out.reshape(n_rows, query.shape[1], 1, -1).transpose(1, 2), None


AttentionInterface.register("bench_grouped", grouped)


def stock(model: Any) -> DynamicCache:
    """The cache that transformers would make."""
    return DynamicCache(config=model.config)


def nbytes(cache: Any) -> int:
    """Bytes of all distinct storages that a cache of any kind can reach."""
    if isinstance(cache, KVCache):
        return int(cache.nbytes)
    storages = [tensor.untyped_storage() for tensor in _tensors(vars(cache), set())]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Plain tensors inside containers, objects and tensors that are made of others."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if type(value) is Tensor:
            yield value
        else:
            for name in value.__tensor_flatten__()[0]:
                yield from _tensors(getattr(value, name), seen)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, seen)
    elif isinstance(value, DynamicLayer):
        yield from _tensors(vars(value), seen)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    return float((ours.float() - theirs.float()).norm() / theirs.float().norm())
