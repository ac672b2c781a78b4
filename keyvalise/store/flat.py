"""Entries without padding: one row per entry, ordered by row, kv head and ordinal.

The common coin of the raw and coded segments: they are taken to flat runs, joined there, and packed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def bounds_of(counts: Sequence[int]) -> tuple[int, ...]:
    """Counts per (row, head) → the B·H + 1 boundaries of their runs."""
    total, bounds = 0, [0]
    for n in counts:
        total += n
        bounds.append(total)
    return tuple(bounds)


def padded_index(
    bounds: Sequence[int], shape: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """(index int64 [B, H, T] into a flat run, live bool [B, H, T]); dead slots point at entry 0."""
    edges = torch.tensor(bounds, device=device)
    lengths = edges[1:] - edges[:-1]
    longest = int(lengths.max()) if len(bounds) > 1 else 0
    slot = torch.arange(longest, device=device)
    live = slot < lengths[:, None]
    index = torch.where(live, edges[:-1, None] + slot, 0)
    return index.view(*shape, longest), live.view(*shape, longest)


def slots(counts: Sequence[int], device: torch.device) -> Tensor:
    """int32 [N]: the place of every entry of a flat run within its head."""
    heads = torch.tensor(counts, dtype=torch.int32, device=device)
    edges = torch.tensor(bounds_of(counts)[:-1], dtype=torch.int32, device=device)
    place = torch.arange(sum(counts), dtype=torch.int32, device=device)
    return place - edges.repeat_interleave(heads)


def runs(starts: Tensor, sizes: Tensor) -> Tensor:
    """int64: start, start + 1, … for every stretch of entries, one behind the other."""
    ends = sizes.cumsum(0)
    place = torch.repeat_interleave(starts - (ends - sizes), sizes)
    return place + torch.arange(len(place), device=place.device)


def regroup(parts: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """The order that turns concatenated flat runs into one run grouped by (row, head).

    `parts` holds the counts per (row, head) of every run; within a head the parts keep their order.
    """
    heads = [
        torch.repeat_interleave(torch.arange(len(counts), device=device), torch.tensor(counts, device=device))
        for counts in parts
    ]
    return torch.argsort(torch.cat(heads), stable=True)


@dataclass(frozen=True)
class Flat:
    """counts per (row, head) in row-major order; keys [N, D], values [N, Dv], ordinals int32 [N], logw,
    columns.
    """

    shape: tuple[int, int]
    counts: tuple[int, ...]
    keys: Tensor
    values: Tensor
    ordinals: Tensor
    logw: Tensor | None
    columns: Mapping[str, Tensor]

    @property
    def is_uniform(self) -> bool:
        return min(self.counts) == max(self.counts)

    def index(self, order: Tensor, counts: tuple[int, ...]) -> Flat:
        """The entries `order` (int64 [M]) as a new run with these counts."""
        return Flat(
            self.shape,
            counts,
            self.keys[order],
            self.values[order],
            self.ordinals[order],
            None if self.logw is None else self.logw[order],
            {name: column[order] for name, column in self.columns.items()},
        )


def join(runs: Sequence[Flat]) -> Flat:
    """Several runs of the same rows and heads as one, ascending by ordinal where each run's follow the
    last's.
    """
    if len(runs) == 1:
        return runs[0]
    order = regroup([run.counts for run in runs], runs[0].keys.device)
    counts = tuple(sum(row) for row in zip(*(run.counts for run in runs), strict=True))
    names = set().union(*(run.columns for run in runs))
    return Flat(
        runs[0].shape,
        counts,
        torch.cat([run.keys for run in runs])[order],
        torch.cat([run.values for run in runs])[order],
        torch.cat([run.ordinals for run in runs])[order],
        join_logw([run.logw for run in runs], [run.ordinals for run in runs], order),
        {name: torch.cat([_column(run, name) for run in runs])[order] for name in sorted(names)},
    )


def join_logw(weights: Sequence[Tensor | None], like: Sequence[Tensor], order: Tensor) -> Tensor | None:
    """Log-weights of joined runs; a run without them weighs log 1 = 0."""
    if all(weight is None for weight in weights):
        return None
    filled = [
        torch.zeros(ones.shape, device=ones.device) if weight is None else weight
        for weight, ones in zip(weights, like, strict=True)
    ]
    return torch.cat(filled)[order]


def _column(run: Flat, name: str) -> Tensor:
    found = run.columns.get(name)
    return torch.zeros(run.ordinals.shape, device=run.ordinals.device) if found is None else found
