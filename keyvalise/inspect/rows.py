"""Attention rows of chosen queries, from a full cache while the model runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from keyvalise.host.cache import KVCache
from keyvalise.store.roll import Roll
from keyvalise.types.data import Memory


@dataclass
class Rows:
    """Keeps, for every call since `clear`, the attention of its last `n` queries in every handled layer.

    calls   per call: layer → probabilities float32 [Hq, n, T]
    """

    cache: KVCache
    n: int = 1
    calls: list[dict[int, Tensor]] = field(default_factory=list)

    @staticmethod
    def on(model: Any, n: int = 1) -> Rows:
        """A full cache of one row whose rows are kept."""
        rows = Rows(KVCache(model), n)
        rows.cache.shared.watch = rows.see
        return rows

    def clear(self) -> None:
        self.calls = []

    def see(self, layer: int, q: Tensor, memory: Memory) -> None:
        """Called by the cache after every layer of every call."""
        if not self.calls or layer in self.calls[-1]:
            self.calls.append({})
        shape = self.cache.shared.layers[layer].env
        assert shape is not None
        keys = Roll.of(memory).entries.keys()[0].float()
        self.calls[-1][layer] = probabilities(q[0, :, -self.n :], keys, shape.geometry.scale)


def probabilities(q: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Causal softmax of the last n queries [Hq, n, D] over all keys [H, T, D]: float32 [Hq, n, T]."""
    n, n_entries = q.shape[1], keys.shape[1]
    logits = q.float() @ keys.repeat_interleave(q.shape[0] // keys.shape[0], 0).transpose(1, 2) * scale
    place = torch.arange(n_entries, device=q.device)
    own = torch.arange(n_entries - n, n_entries, device=q.device)
    return logits.masked_fill(place > own[:, None], -torch.inf).softmax(-1)
