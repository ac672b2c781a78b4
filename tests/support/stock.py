"""What a model without us computes on a prompt: attention, keys, values, and queries before rotation."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from tests.support import drive
from tests.support.models import tiny


@dataclass(frozen=True)
class Prompt:
    """One row of N tokens, per layer.

    Shapes   attention [Hq, N, N], raw_queries (before rotation) [Hq, N, D], keys [H, N, D], values [H, N, D]
    """

    attention: list[Tensor]
    raw_queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]

    @property
    def group(self) -> int:
        return self.attention[0].shape[0] // self.keys[0].shape[0]

    def grouped(self, x: Tensor) -> Tensor:
        """Mean over the query heads of a kv head: [Hq, …] → [H, …]."""
        return x.unflatten(0, (-1, self.group)).mean(1)


@functools.cache
def eager() -> Any:
    """The tiny Llama with eager attention, which shows its matrices."""
    keyvalise.detach(tiny("llama"))
    model = copy.deepcopy(tiny("llama"))
    model.set_attn_implementation("eager")
    return model


@functools.cache
def prompt(n: int, seed: int = 0) -> Prompt:
    """The first n tokens of `drive.text`."""
    model, cache, queries = eager(), DynamicCache(config=eager().config), []
    hooks = [
        layer.self_attn.q_proj.register_forward_hook(lambda *call: queries.append(call[2]))
        for layer in model.model.layers
    ]
    try:
        with torch.no_grad():
            out = model(drive.text(n, seed=seed).ids, past_key_values=cache, output_attentions=True)
    finally:
        for hook in hooks:
            hook.remove()
    return Prompt(
        [matrix[0] for matrix in out.attentions],
        [q[0].unflatten(-1, (model.config.num_attention_heads, -1)).transpose(0, 1) for q in queries],
        [layer.keys[0] for layer in cache.layers],
        [layer.values[0] for layer in cache.layers],
    )
