"""The shapes of one model's keys and values, read once from its configuration, and its rotary data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a layer's keys and values look like; the same for every layer that a recipe handles.

    Units   `*_dim` elements; `dtype` is the dtype in which raw entries are held
    """

    n_layers: int
    n_query_heads: int
    n_kv_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    scale: float
    softcap: float | None = None

    @property
    def group(self) -> int:
        """Query heads per kv head."""
        return self.n_query_heads // self.n_kv_heads

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def entry_bytes(self) -> int:
        """Bytes of one raw key and value of one kv head."""
        return (self.key_dim + self.value_dim) * self.itemsize

    @property
    def token_bytes(self) -> int:
        """Bytes of one token of the full cache in one layer."""
        return self.n_kv_heads * self.entry_bytes

    @staticmethod
    def of(
        config: Any, dtype: torch.dtype | None = None, n_layers: int | None = None, is_latent: bool = False
    ) -> Geometry:
        """Read a model configuration; `n_layers` counts only the layers a recipe handles.

        is_latent   the cache holds one latent and one rotary key for all heads (multi-head latent attention)
        """
        text = (
            config.get_text_config(decoder=True)
            if callable(getattr(config, "get_text_config", None))
            else config
        )
        n_query = int(text.num_attention_heads)
        n_kv = getattr(text, "num_key_value_heads", None) or n_query
        head = getattr(text, "head_dim", None) or int(text.hidden_size) // n_query
        key_dim = value_dim = int(head)
        if is_latent:
            n_kv, key_dim, value_dim = 1, int(text.kv_lora_rank), int(text.qk_rope_head_dim)
        held = dtype or getattr(text, "dtype", None) or torch.float32
        if isinstance(held, str):
            held = getattr(torch, held.removeprefix("torch."))
        return Geometry(
            n_layers=n_layers or int(text.num_hidden_layers),
            n_query_heads=n_query,
            n_kv_heads=int(n_kv),
            key_dim=key_dim,
            value_dim=value_dim,
            dtype=held,
            scale=key_dim**-0.5,
        )


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position data of one layer, made once by the host.

    Shapes   frequencies [width/2] float32: inverse frequencies, radians per position
    """

    frequencies: Tensor
    is_interleaved: bool
    scaling: float = 1.0
    is_static: bool = True

    @property
    def width(self) -> int:
        """Channels of a head that are rotated."""
        return 2 * self.frequencies.numel()

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [...] -> cos, sin [..., width/2] float32, without `scaling`."""
        phase = positions.to(self.frequencies.device, torch.float32)[..., None] * self.frequencies
        return phase.cos(), phase.sin()
