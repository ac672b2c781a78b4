"""Allocators that follow a profile, run in every layer of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Scores
from keyvalise.types.part import Allocate
from tests.unit.builders import NAN, make_env, make_geometry


def table(
    part: Allocate,
    profile: Tensor,
    per_head: Sequence[int],
    seen: Sequence[int],
    *,
    guarded: tuple[int, int] = (0, 7),
    lengths: Tensor | None = None,
    **env: Any,
) -> Tensor:
    """Counts [B, L, H] of a profile [L, Hq | H] or [L] for rows with these budgets and tokens.

    guarded   sinks and recents;  lengths: int [B, L, H] where some heads hold less than was seen
    """
    check_arguments(part)
    n_layers, n_kv = len(profile), 4
    geometry = make_geometry(layers=n_layers, query_heads=8, kv_heads=n_kv)
    held = torch.tensor(seen)[:, None, None].expand(-1, n_layers, n_kv) if lengths is None else lengths
    key = "layers" if profile.ndim == 1 else "heads"
    surroundings = replace(
        make_env(geometry),
        seen=tuple(seen),
        fixed={part.profile: {key: profile}},
        **env,  # type: ignore[attr-defined]
    )
    slots = torch.arange(int(held.max()))
    rows = []
    for layer in range(n_layers):
        mine = held[:, layer, :, None]
        # Of a head that holds less the first and the newest are left.
        protect = (slots < mine) & ((slots < guarded[0]) | (slots >= mine - guarded[1]))
        values = torch.zeros(protect.shape).masked_fill(slots >= mine, NAN)
        budget = torch.tensor(per_head) * n_kv
        rows.append(
            part.allocate(
                replace(surroundings, layer=layer), Scores(values), protect, held[:, layer].int(), budget
            )
        )
    counts = torch.stack(rows, 1)
    assert counts.dtype == torch.int64 and bool((counts <= held).all()) and bool((counts >= 0).all())
    return counts
