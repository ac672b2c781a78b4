"""A model whose attention is ours for a while: every call comes in as a `Seam`, and nothing stays behind.

Weights, their flags, the modes of all modules and the name of the attention are then what they were.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from keyvalise.host import attention
from keyvalise.host import model as models
from keyvalise.types.errors import HostError, UnsupportedModel

NAME = "keyvalise-train"

MASKED = ("sdpa", "eager")
"""Attention functions that take any mask; every family has the second."""

Native = Callable[..., tuple[Tensor, Any]]


@dataclass(frozen=True)
class Seam:
    """One call of one layer: its last S of T columns ask.

    Shapes   query [B, Hq, S, D], keys and values [B, H, T, D];  whatever attends answers [B, S, Hq, Dv]
    mask     what the model's own mask function made for the call;  options: the keywords of the call
    """

    module: Any
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: Any
    options: dict[str, Any]
    own: str

    @property
    def layer(self) -> int:
        return int(self.module.layer_idx)

    @property
    def group(self) -> int:
        """Query heads per kv head."""
        return self.query.shape[1] // self.keys.shape[1]

    def rows(self, rows: slice) -> Seam:
        """Some rows of the batch."""
        mask = self.mask[rows] if isinstance(self.mask, Tensor) and self.mask.shape[0] > 1 else self.mask
        q, k, v = self.query[rows], self.keys[rows], self.values[rows]
        return Seam(self.module, q, k, v, mask, self.options, self.own)

    def native(self) -> Tensor:
        """What the model itself would compute."""
        arguments = self.query, self.keys, self.values, self.mask
        return _function(self.module, self.own)(self.module, *arguments, **self.options)[0]

    def over(self, columns: Tensor, begin: int, end: int, is_seen: Tensor) -> Tensor:
        """The queries begin … end − 1 over some columns, of which they see what is_seen [S', n] says."""
        query = self.query[:, :, begin:end]
        mask = torch.zeros(is_seen.shape, dtype=query.dtype, device=query.device)
        mask = mask.masked_fill(~is_seen, torch.finfo(query.dtype).min)[None, None]
        name = self.own if self.own in MASKED else "eager"
        chosen = self.keys[:, :, columns], self.values[:, :, columns]
        mask = mask.expand(query.shape[0], 1, -1, -1)
        return _function(self.module, name)(self.module, query, *chosen, mask, **self.options)[0]

    def columns_of(self, begin: int, end: int) -> Tensor:
        """The columns of the queries begin … end − 1 themselves, [S']."""
        before = self.keys.shape[2] - self.query.shape[2]
        return torch.arange(before + begin, before + end, device=self.query.device)

    def probabilities(self, begin: int, end: int) -> Tensor:
        """Attention of the queries begin … end − 1 of the first row, float32 [Hq, S', T], causal."""
        keys = self.keys[0].float().repeat_interleave(self.group, 0)
        scale = self.options.get("scaling")
        scale = float(self.query.shape[-1] ** -0.5 if scale is None else scale)
        logits = self.query[0, :, begin:end].float() @ keys.transpose(1, 2) * scale
        if (softcap := self.options.get("softcap")) is not None:
            logits = softcap * (logits / softcap).tanh()
        later = torch.arange(keys.shape[1], device=keys.device) > self.columns_of(begin, end)[:, None]
        logits = logits.masked_fill(later, -torch.inf)
        sinks = getattr(self.module, "sinks", None)
        if sinks is None:
            return logits.softmax(-1)
        learned = sinks.float()[:, None, None].expand(-1, logits.shape[1], 1)
        return torch.cat([logits, learned], -1).softmax(-1)[..., :-1]


Attend = Callable[[Seam], Tensor]


@contextmanager
def served(model: Any, attend: Attend) -> Iterator[None]:
    """The model in evaluation mode with frozen weights, while `attend` answers all its attention.

    Raises   UnsupportedModel for a model that does not ask the attention interface; HostError where it is
             served already
    """
    if models.seam_of(model) != "handle":
        raise UnsupportedModel(
            f"{type(model).__name__} computes attention without the attention interface; "
            "its heads cannot be trained or measured here"
        )
    config = models.text_config(model)
    named, own = config._attn_implementation, attention.before(config)
    if named == NAME:
        raise HostError(f"the attention of this {type(model).__name__} is being served already")

    def serve(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> tuple[Tensor, None]:
        return attend(Seam(module, q, k, v, mask, options, own)), None

    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    AttentionInterface.register(NAME, serve)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[own])
    config._attn_implementation = NAME
    try:
        model.requires_grad_(False).eval()
        yield
    finally:
        config._attn_implementation = named
        for registry in (AttentionInterface, AttentionMaskInterface):
            registry._global_mapping.pop(NAME, None)
        for weight, flag in flags:
            weight.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


def _function(module: Any, name: str) -> Native:
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    found: Native = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)
    return found
