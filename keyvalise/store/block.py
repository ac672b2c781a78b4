"""A block of entries cut into units: what lies in each, and what is known of it without reading."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from keyvalise.ops import attend, units
from keyvalise.store import flat, runs
from keyvalise.store.coded import Coded
from keyvalise.store.runs import Run
from keyvalise.types.data import Env, Partial, Queries
from keyvalise.types.retrieve import Cut, Retrieve, Table
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Block:
    """Entries unit by unit in every head, and where every unit ends.

    held    of any (row, head) the entries of its first unit, then of its second, …; within a unit ascending
    ends    int32 [B, H, U]: entries of a head up to the end of a unit; equal to the one before where a unit
            is empty
    """

    held: Run
    ends: Tensor
    summaries: dict[str, Tensor]

    @staticmethod
    def of(held: Run, retrieve: Retrieve, env: Env) -> Block:
        """Cut entries that ascend by ordinal in every head."""
        entries = held.entries()
        unit = retrieve.cut(env, entries)
        n = int(torch.where(entries.live, unit, -1).max()) + 1
        cut = Cut(entries, unit, units.sizes(unit, entries.live, n))
        index, live = flat.padded_index(held.bounds, held.shape, entries.live.device)
        home = torch.arange(live.shape[0] * live.shape[1], device=live.device).view(*live.shape[:2], 1)
        order = index[live][torch.argsort((home * n + unit)[live], stable=True)]
        ends = cut.sizes.cumsum(-1, dtype=torch.int32)
        return Block(runs.picked(held, order, held.counts), ends, retrieve.summaries(env, cut))

    @property
    def table(self) -> Table:
        return Table(self.sizes, self.summaries)

    @property
    def sizes(self) -> Tensor:
        """int32 [B, H, U]."""
        return torch.diff(self.ends, prepend=torch.zeros_like(self.ends[..., :1]))

    @property
    def longest(self) -> int:
        return max(self.held.counts)

    def read(self, queries: Queries, chosen: Tensor) -> Partial:
        """The entries of these units, int64 [B, A, n] with −1 for none, answer one query per head."""
        n_heads, n_lists = self.held.shape[1], max(chosen.shape[1], self.held.shape[1])
        if isinstance(self.held, Coded) and n_lists > n_heads:
            return self._in_turns(queries, chosen, n_lists // n_heads)
        has = (chosen >= 0).expand(-1, n_lists, -1)
        sizes = torch.where(has, units.picked(self.sizes, chosen), 0)
        first = torch.tensor(self.held.bounds[:-1], device=chosen.device).view(-1, n_heads)
        first = units.of_heads(first, n_lists)[..., None]
        start = (first + units.picked(self.ends, chosen) - sizes)[has]
        return _answer(self.held, queries, _runs(start, sizes[has]), sizes.sum(-1))

    def _in_turns(self, queries: Queries, chosen: Tensor, group: int) -> Partial:
        """`read` with one query head of every group at a time: codes are known by their kv head."""
        turns = [
            self.read(replace(queries, q=queries.q[:, g::group]), chosen[:, g::group]) for g in range(group)
        ]
        out = torch.stack([turn.out for turn in turns], 2).flatten(1, 2)
        return Partial(out, torch.stack([turn.lse for turn in turns], 2).flatten(1, 2))

    def rows(self, index: Tensor) -> Block:
        summaries = {name: tensor[index] for name, tensor in self.summaries.items()}
        return Block(self.held.rows(index), self.ends[index], summaries)

    def join(self, later: Block) -> Block:
        """Both as one, the later units behind."""
        ends = torch.cat([self.ends, self.ends[..., -1:] + later.ends], -1)
        summaries = {name: torch.cat([own, later.summaries[name]], 2) for name, own in self.summaries.items()}
        return Block(runs.together([self.held, later.held]), ends, summaries)

    def tensors(self) -> Iterable[Named]:
        yield from self.held.tensors()
        yield "index", self.ends.device.type, self.ends
        for tensor in self.summaries.values():
            yield "index", tensor.device.type, tensor


def _runs(start: Tensor, size: Tensor) -> Tensor:
    """int64: start, start + 1, … for every run, one behind the other."""
    ends = size.cumsum(0)
    place = torch.repeat_interleave(start - (ends - size), size)
    return place + torch.arange(len(place), device=place.device)


def _answer(held: Run, queries: Queries, order: Tensor, counts: Tensor) -> Partial:
    """The entries `order`, as many for every choice as counted in [B, A], answer."""
    sizes = tuple(counts.flatten().tolist())
    if isinstance(held, Coded):
        return held.picked(order, sizes, (counts.shape[0], counts.shape[1])).attend(queries)[0]
    out, lse = attend.ragged(
        queries.q,
        held.keys[order],
        held.values[order],
        bounds=flat.bounds_of(sizes),
        scale=queries.scale,
        softcap=queries.softcap,
        logw=None if held.logw is None else held.logw[order],
    )
    return Partial(out, lse)
