"""A block of entries cut into units: what lies in each, and what is known of it without reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops import attend, units
from keyvalise.store import flat, in_place, runs
from keyvalise.store.coded import Coded
from keyvalise.store.ragged import Ragged
from keyvalise.store.runs import Run
from keyvalise.store.stowed import Stowed
from keyvalise.types.data import Env, Partial, Queries
from keyvalise.types.retrieve import Cut, Retrieve, Table
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Block:
    """Entries unit by unit in every head, and what stands for every unit; M units of all (row, head).

    held       of any (row, head) the entries of its first unit, then of its second, …; within one ascending
    counts     units per (row, head), some of which may be empty
    ends       int32 [M]: entries of a head up to the end of a unit;  summaries: name → [M, …]
    """

    held: Run
    counts: tuple[int, ...]
    ends: Tensor
    summaries: Mapping[str, Tensor]

    @staticmethod
    def of(held: runs.Near, retrieve: Retrieve, env: Env, stats: Mapping[str, Tensor]) -> Block:
        """Cut entries that ascend by ordinal in every head."""
        entries = held.entries()
        unit, device = retrieve.cut(env, entries), entries.live.device
        counts = torch.where(entries.live, unit, -1).amax(-1) + 1
        n = int(counts.max())
        cut = Cut(entries, unit, units.sizes(unit, entries.live, n), stats)
        index, live = flat.padded_index(held.bounds, held.shape, device)
        home = torch.arange(len(held.counts), device=device).view(*held.shape, 1)
        order = index[live][torch.argsort((home * n + unit)[live], stable=True)]
        is_unit = torch.arange(n, device=device) < counts[..., None]
        return Block(
            runs.placed(runs.picked(replace(held, columns={}), order, held.counts), retrieve.place, env.slow),
            tuple(counts.flatten().tolist()),
            cut.sizes.cumsum(-1, dtype=torch.int32)[is_unit],
            {name: tensor[is_unit] for name, tensor in retrieve.summaries(env, cut).items()},
        )

    @property
    def table(self) -> Table:
        summaries = {name: self.padded(tensor) for name, tensor in self.summaries.items()}
        return Table(self.sizes, summaries, self.keys)

    def keys(self, home: int) -> Tensor:
        """Keys [n, D] of one (row, head), unit by unit, of raw entries near by."""
        assert isinstance(self.held, Ragged), "who asks for keys needs entries:near"
        return self.held.keys[slice(*self.held.bounds[home : home + 2])]

    @property
    def sizes(self) -> Tensor:
        """int32 [B, H, U], 0 where a head has fewer units."""
        ends = self.padded(self.ends)
        sizes = ends.clone()
        sizes[..., 1:] -= ends[..., :-1]
        return sizes if self.is_even else torch.where(self._is_unit, sizes, 0)

    @property
    def is_even(self) -> bool:
        """Whether all heads have equally many units."""
        return min(self.counts) == max(self.counts)

    @property
    def n_units(self) -> int:
        """Units of the head that has most."""
        return max(self.counts)

    @property
    def longest(self) -> int:
        return max(self.held.counts)

    @property
    def _is_unit(self) -> Tensor:
        counts = torch.tensor(self.counts, device=self.ends.device).view(*self.held.shape, 1)
        return torch.arange(self.n_units, device=self.ends.device) < counts

    def padded(self, x: Tensor) -> Tensor:
        """[M, …] as [B, H, U, …], anything where a head has fewer units; a view where none has."""
        if self.is_even:
            return x.view(*self.held.shape, -1, *x.shape[1:])
        index, _ = flat.padded_index(flat.bounds_of(self.counts), self.held.shape, x.device)
        return x[index]

    def read(self, queries: Queries, chosen: Tensor) -> Partial:
        """The entries of these units, int64 [B, A, n] with −1 for none, answer one query per head."""
        n_heads, held = self.held.shape[1], self.held
        start, sizes, per_list = self._spans(chosen)
        if not isinstance(held, Stowed):
            order = flat.runs(start, sizes)
            if (found := _in_place(held, queries, order, per_list)) is not None:
                return found
        if chosen.shape[1] > n_heads:
            return self._in_turns(queries, chosen, chosen.shape[1] // n_heads)
        if isinstance(held, Stowed):
            return held.answer(queries, start, sizes, per_list)
        assert isinstance(held, Coded)
        return held.picked(order, per_list).attend(queries)[0]

    def listed(self, chosen: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """Where the entries of these units lie, int64 [M], list by list, and how many are in every list."""
        start, sizes, per_list = self._spans(chosen)
        return flat.runs(start, sizes), per_list

    def answer(self, queries: Queries, order: Tensor, per_list: tuple[int, ...]) -> Partial:
        """The entries that lie at `order`, so many for every list, answer one query per head; of raw entries
        near by.
        """
        assert isinstance(self.held, Ragged), "who picks entries needs entries:near"
        found = _in_place(self.held, queries, order, per_list)
        assert found is not None
        return found

    def _spans(self, chosen: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Of every chosen unit where it begins and how many entries it has, int64 and int32 [n], and how many
        entries come together in every list of B·max(A, H).
        """
        n_rows, n_heads = self.held.shape
        n_lists = max(chosen.shape[1], n_heads)
        lists, home, unit = units.listed(chosen, n_heads)
        if not self.is_even:
            has = unit < torch.tensor(self.counts, device=unit.device)[home]
            lists, home, unit = lists[has], home[has], unit[has]
        place = self._edges(flat.bounds_of(self.counts))[home] + unit
        begin = torch.where(unit > 0, self.ends[place - 1], 0)
        sizes = self.ends[place] - begin
        counts = torch.zeros(n_rows * n_lists, dtype=torch.long, device=chosen.device)
        counts.index_add_(0, lists, sizes.long())
        return self._edges(self.held.bounds)[home] + begin, sizes, tuple(counts.tolist())

    def _edges(self, edges: tuple[int, ...]) -> Tensor:
        """Where every (row, head) begins."""
        return torch.tensor(edges[:-1], device=self.ends.device)

    def _in_turns(self, queries: Queries, chosen: Tensor, group: int) -> Partial:
        """`read` with one query head of every group at a time: codes are known by their kv head."""
        turns = [
            self.read(replace(queries, q=queries.q[:, g::group]), chosen[:, g::group]) for g in range(group)
        ]
        out = torch.stack([turn.out for turn in turns], 2).flatten(1, 2)
        return Partial(out, torch.stack([turn.lse for turn in turns], 2).flatten(1, 2))

    def rows(self, index: Tensor) -> Block:
        n_heads, edges, order = self.held.shape[1], flat.bounds_of(self.counts), []
        for row in index.tolist():
            span = edges[row * n_heads], edges[(row + 1) * n_heads]
            order.append(torch.arange(*span, device=self.ends.device))
        counts = [n for row in index.tolist() for n in self.counts[row * n_heads : (row + 1) * n_heads]]
        return self._with(self.held.rows(index), tuple(counts), self.ends, self.summaries, torch.cat(order))

    def join(self, later: Block) -> Block:
        """Both as one, the later units behind in every head."""
        before = torch.tensor(self.held.counts, dtype=torch.int32, device=self.ends.device)
        lasting = torch.tensor(later.counts, device=self.ends.device)
        ends = torch.cat([self.ends, later.ends + before.repeat_interleave(lasting)])
        summaries = {name: torch.cat([own, later.summaries[name]]) for name, own in self.summaries.items()}
        order = flat.regroup([self.counts, later.counts], self.ends.device)
        counts = tuple(map(sum, zip(self.counts, later.counts, strict=True)))
        both = runs.together([runs.near(self.held), runs.near(later.held)])
        held = self.held.again(both) if isinstance(self.held, Stowed) else both
        return self._with(held, counts, ends, summaries, order)

    @staticmethod
    def _with(
        held: Run, counts: tuple[int, ...], ends: Tensor, summaries: Mapping[str, Tensor], order: Tensor
    ) -> Block:
        """Units in another order."""
        return Block(held, counts, ends[order], {name: tensor[order] for name, tensor in summaries.items()})

    def tensors(self) -> Iterable[Named]:
        yield from self.held.tensors()
        yield "index", self.ends.device.type, self.ends
        for tensor in self.summaries.values():
            yield "index", tensor.device.type, tensor


def _in_place(held: runs.Near, queries: Queries, order: Tensor, counts: tuple[int, ...]) -> Partial | None:
    """The entries `order` (int64 [M]) answer where they lie, as many for every list as counted; None where
    codes must be spelled out first.
    """
    bounds = flat.bounds_of(counts)
    if isinstance(held, Coded):
        found = in_place.answer(held, queries, order, bounds)
        return None if found is None else Partial(*found)
    scale, softcap, logw = queries.scale, queries.softcap, held.logw
    told: dict[str, Any] = {
        "bounds": bounds,
        "index": order,
        "scale": scale,
        "softcap": softcap,
        "logw": logw,
    }
    return Partial(*attend.ragged(queries.q, held.keys, held.values, **told))
