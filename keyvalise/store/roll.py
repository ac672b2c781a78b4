"""The writable entries of a memory in one list per head: what stages and observers look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.types.data import Entries, Memory
from keyvalise.types.part import Observer
from keyvalise.types.segment import Writable


def writable(memory: Memory) -> list[Writable]:
    """The segments whose entries can be judged, in their order."""
    return [segment for segment in memory.segments if not segment.frozen]  # type: ignore[misc]


@dataclass(frozen=True)
class Roll:
    """The writable entries of a memory in one list per head, and the way back to their segments.

    order   int64 [B, H, T]: compact slot → slot among the segments laid side by side; None: the same
    """

    segments: tuple[Writable, ...]
    widths: tuple[int, ...]
    order: Tensor | None
    entries: Entries

    @staticmethod
    def of(memory: Memory) -> Roll:
        segments = tuple(writable(memory))
        lists = [segment.entries() for segment in segments]
        if len(lists) == 1:
            return Roll(segments, (lists[0].live.shape[-1],), None, lists[0])
        live = torch.cat([entries.live for entries in lists], -1)
        lengths = live.sum(-1, dtype=torch.int32)
        order = torch.argsort(~live, dim=-1, stable=True)[..., : int(lengths.max())]
        return Roll(
            segments, tuple(e.live.shape[-1] for e in lists), order, _side_by_side(lists, order, lengths)
        )

    def split(self, values: Tensor, fill: float = 0) -> list[Tensor]:
        """[B, H, T] per compact slot → one [B, H, T_i] per segment."""
        if self.order is None:
            return [values]
        wide = values.new_full((*values.shape[:2], sum(self.widths)), fill)
        # A compact slot beyond a head's length points at some dead slot; `fill` is what that holds.
        alive = torch.where(self.entries.live, values, torch.full_like(values, fill))
        return list(wide.scatter_(-1, self.order, alive).split(self.widths, -1))


def with_columns(memory: Memory, roll: Roll, columns: Mapping[str, Tensor]) -> tuple[Memory, Roll]:
    """The memory and its roll with exactly these columns [B, H, T]."""
    if not columns and not roll.entries.columns:
        return memory, roll
    parts, before = {name: roll.split(column) for name, column in columns.items()}, roll.segments
    segments = tuple(
        segment.with_columns({name: split[i] for name, split in parts.items()})
        for i, segment in enumerate(roll.segments)
    )
    roll = replace(roll, segments=segments, entries=replace(roll.entries, columns=dict(columns)))
    changed = dict(zip(map(id, before), segments, strict=True))
    everyone = tuple(changed.get(id(segment), segment) for segment in memory.segments)
    return replace(memory, segments=everyone), roll


def only(memory: Memory, roll: Roll, observers: Sequence[Observer]) -> Memory:
    """The memory with nothing remembered but what these observers keep."""
    stats = {name for observer in observers for name in observer.stats}
    columns = {name for observer in observers for name in observer.columns}
    memory = replace(memory, stats={name: stat for name, stat in memory.stats.items() if name in stats})
    kept = {name: column for name, column in roll.entries.columns.items() if name in columns}
    return with_columns(memory, roll, kept)[0]


def _side_by_side(lists: Sequence[Entries], order: Tensor, lengths: Tensor) -> Entries:
    live = torch.arange(order.shape[-1], device=order.device) < lengths[..., None]

    def column(name: str) -> Tensor:
        return torch.cat([entries.column(name) for entries in lists], -1).gather(-1, order)

    def rows(tensors: list[Tensor]) -> Tensor:
        wide = torch.cat(tensors, 2)
        picked = wide.gather(2, order[..., None].expand(*order.shape, wide.shape[-1]))
        return picked.masked_fill(~live[..., None], 0)

    logw = None
    if any(entries.logw is not None for entries in lists):
        zeros = [torch.zeros(entries.live.shape, device=order.device) for entries in lists]
        weights = [zero if e.logw is None else e.logw for e, zero in zip(lists, zeros, strict=True)]
        logw = torch.cat(weights, -1).gather(-1, order)
    ordinals = torch.cat([entries.ordinals for entries in lists], -1).gather(-1, order)
    return Entries(
        lengths,
        live,
        ordinals.masked_fill(~live, -1),
        logw,
        {name: column(name) for name in sorted(set().union(*(entries.columns for entries in lists)))},
        lambda: rows([entries.keys() for entries in lists]),
        lambda: rows([entries.values() for entries in lists]),
    )
