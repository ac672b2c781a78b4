"""The attention and mask functions registered as "keyvalise", and which ones a model had before.

The cache's `update` returns a `Handle` in place of keys and values; it reaches `attention` untouched,
together with the `MaskInfo` that `mask` made. Anything else that arrives is served by the functions the
model had before.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from keyvalise.types.data import Stretch
from keyvalise.types.errors import HostError

NAME = "keyvalise"

_before: dict[int, str] = {}
"""id of a configuration → the attention it named before; entries leave with the configuration."""

_of_kind: dict[type, str] = {}
"""Class of configuration → what the latest switched one named before: for copies made of a switched model."""


class Attends(Protocol):
    """The layer behind a handle."""

    def attend(self, seam: Seam, mask: MaskInfo) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Handle:
    """What `update` returns twice: the layer, and the new keys and values it has not stored yet."""

    layer: Attends
    keys: Tensor
    values: Tensor


@dataclass(frozen=True)
class Seam:
    """One call of the attention interface: module, query [B, Hq, S, D], new keys and values, and its
    keywords.
    """

    module: torch.nn.Module
    query: Tensor
    keys: Tensor
    values: Tensor
    mask: MaskInfo
    options: dict[str, Any]

    def native(self) -> Tensor:
        """The model's own attention over this call alone, [B, Hq, S, Dv]."""
        out, _ = base_attention(self.module)(
            self.module, self.query, self.keys, self.values, self.mask.base, **self.options
        )
        return out.transpose(1, 2)


@dataclass
class MaskInfo:
    """What the mask function was told; makes the mask the model had before only when somebody wants it."""

    n_queries: int
    padding: Tensor | None
    is_causal: bool
    arguments: dict[str, Any]
    make: Callable[..., Any] | None

    @cached_property
    def base(self) -> Any:
        return None if self.make is None else self.make(**self.arguments)

    def contiguous(self) -> Any:
        """The mask the model had before: `generate` asks for it where a cache has a fixed size, as ours
        never have.
        """
        return None if self.base is None else self.base.contiguous()

    def stretch(self, clock: tuple[int, ...]) -> Stretch:
        """Which of the new columns hold real tokens, for rows that have seen `clock` tokens."""
        leads = self._leads
        return (
            Stretch.whole(self.n_queries, clock) if leads is None else Stretch(self.n_queries, clock, *leads)
        )

    @property
    def has_padding(self) -> bool:
        """Whether any new column is padding."""
        return self._leads is not None

    @property
    def n_rows(self) -> int:
        return int(self.arguments["batch_size"])

    @cached_property
    def _leads(self) -> Leads | None:
        return None if self.padding is None else leads_of(self.padding[:, -self.n_queries :])


Leads = tuple[tuple[int, ...], tuple[int, ...]]
"""Per row: columns of padding before the real tokens, and how many real tokens there are."""


def leads_of(real: Tensor) -> Leads | None:
    """Where the real tokens lie in bool [B, S]; None where all are real.

    Raises   HostError where padding stands between real tokens
    """
    if bool(real.all()):
        return None
    counts = real.sum(-1)
    leads = torch.where(counts > 0, real.int().argmax(-1), 0)
    column = torch.arange(real.shape[1], device=real.device)
    run = (column >= leads[:, None]) & (column < (leads + counts)[:, None])
    if not bool((run == real).all()):
        raise HostError("the attention mask has holes between real tokens; pad on one side only")
    return tuple(leads.tolist()), tuple(counts.tolist())


def stretch_of(real: Tensor | None, width: int, clock: tuple[int, ...]) -> Stretch:
    """The stretch of `width` new columns of which `real` [B, S] are tokens."""
    leads = None if real is None else leads_of(real)
    return Stretch.whole(width, clock) if leads is None else Stretch(width, clock, *leads)


def mask(*, config: Any, **arguments: Any) -> MaskInfo:
    """The mask function registered beside `attention`."""
    name = before(config)
    make = ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.get(name)
    return MaskInfo(
        n_queries=arguments["q_length"],
        padding=arguments.get("attention_mask"),
        is_causal=arguments.get("mask_function") is causal_mask_function,
        arguments={**arguments, "config": config},
        make=make,
    )


def attention(
    module: torch.nn.Module, query: Tensor, key: Any, value: Any, attention_mask: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """Serve a handle by its layer, everything else as the model did before."""
    if isinstance(key, Handle):
        if not isinstance(attention_mask, MaskInfo):
            raise HostError(
                "a ready-made attention mask cannot be applied to a KVCache; pass the 2D padding mask"
            )
        seam = Seam(module, query, key.keys, key.values, attention_mask, options)
        return key.layer.attend(seam, attention_mask), None
    if isinstance(attention_mask, MaskInfo):
        attention_mask = attention_mask.base
    return base_attention(module)(module, query, key, value, attention_mask, **options)


def base_attention(module: torch.nn.Module) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """The attention function that the module would use without us."""
    name = before(module.config)
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, eager)


def before(config: Any) -> str:
    """The attention that this configuration named before the switch."""
    name: str = _before.get(id(config)) or config._attn_implementation
    return _of_kind[type(config)] if name == NAME else name


def switch(config: Any) -> None:
    """Name our attention in the configuration; the only trace that a KVCache leaves on a model."""
    if config._attn_implementation == NAME:
        return
    _before[id(config)] = _of_kind[type(config)] = config._attn_implementation
    weakref.finalize(config, _before.pop, id(config), None)
    config._attn_implementation = NAME


def unswitch(config: Any) -> None:
    """Name the earlier attention again."""
    if config._attn_implementation == NAME:
        config._attn_implementation = before(config)


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
