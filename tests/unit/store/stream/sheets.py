"""Sheets for tests: channels that depend on one another, tokens that repeat, every shape a stream allows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from keyvalise.ops import rope
from keyvalise.store.stream.sheet import Sheet
from keyvalise.types.geometry import Rope


def make(
    heads: int = 2,
    n: int = 63,
    dim: int = 16,
    value_dim: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    *,
    has_ids: bool = True,
    turn: Rope | None = None,
    per_head: bool = False,
    repeats: bool = False,
    seed: int = 0,
) -> Sheet:
    """A sheet; `repeats`: rows depend on the token alone, before keys are turned."""
    value_dim = dim if value_dim is None else value_dim
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, max(2, n // 4), (n,), generator=g).int()
    hidden = torch.randn(n, 2 * heads * dim, generator=g)
    if repeats:
        hidden = torch.randn(int(ids.max()) + 1 if n else 1, 2 * heads * dim, generator=g)[ids.long()]
    keys = _image(hidden, heads, dim, g) + 2 * torch.randn(heads, 1, dim, generator=g)
    values = _image(hidden, heads, value_dim, g)
    ordinals = torch.arange(n, dtype=torch.int32) + 3
    if per_head:
        draws = [torch.randperm(3 * n, generator=g)[:n].sort().values for _ in range(heads)]
        ordinals = torch.stack(draws).int()
        ids = torch.stack([ids] * heads)
    if turn is not None:
        places = ordinals if per_head else ordinals[None]
        keys = rope.apply(keys, places + 5, turn)
    known = ids if has_ids else None
    return Sheet(keys.to(dtype).contiguous(), values.to(dtype).contiguous(), ordinals, known, turn, 5)


def half(width: int = 16, *, is_interleaved: bool = False, scaling: float = 1.0) -> Rope:
    """Rotary data of so many channels."""
    frequencies = torch.tensor(1e4 ** (-np.arange(0, width, 2) / width), dtype=torch.float32)
    return Rope(frequencies, is_interleaved, scaling)


def same(one: Tensor, other: Tensor) -> bool:
    """Equal bit for bit."""
    kind = torch.int32 if one.dtype is torch.float32 else torch.int16
    return one.dtype is other.dtype and torch.equal(
        one.contiguous().view(kind), other.contiguous().view(kind)
    )


def same_sheets(ours: list[Sheet], theirs: list[Sheet]) -> bool:
    """Keys, values and positions, bit for bit."""
    return len(ours) == len(theirs) and all(
        same(a.keys, b.keys) and same(a.values, b.values) and torch.equal(a.ordinals, b.ordinals)
        for a, b in zip(ours, theirs, strict=True)
    )


def _image(hidden: Tensor, heads: int, dim: int, generator: torch.Generator) -> Tensor:
    """A linear image of few directions of a hidden state, and some noise of its own: [heads, n, dim]."""
    narrow = hidden[:, : max(1, hidden.shape[1] // 3)]
    mix = torch.randn(narrow.shape[1], heads * dim, generator=generator) / narrow.shape[1] ** 0.5
    return (narrow @ mix).view(len(hidden), heads, dim).transpose(0, 1)
