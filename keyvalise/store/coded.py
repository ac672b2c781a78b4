"""Entries in few bits: immutable codes, written once, read block by block.

Knows the codec only by its protocol. Entries that leave take their own codes along; parameters that a group
of entries shares leave with the group's last entry.
"""

from __future__ import annotations

import bisect
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend, rope
from keyvalise.store import flat, in_place
from keyvalise.store.joining import joined
from keyvalise.store.places import Places
from keyvalise.types.code import Asked, Codes, Direct, Encode, Fitted, Where
from keyvalise.types.data import Entries, Env, Partial, Queries
from keyvalise.types.segment import Named

READ_BYTES = 16 * 2**20
"""Most bytes of decoded keys and values that one read holds at once."""

SHARE, LEAST_BYTES = 96, 3 * 2**16
"""A decode step decodes a 96th of a segment at once, or entries of so many raw bytes: decoding takes up to
five times what it gives, and twice that where keys are turned.
"""


@dataclass(frozen=True)
class Coded:
    """Codes of entries grouped by (row, head).

    group_of   int32 [N] finds an entry's group;  None: consecutive entries share
    """

    codec: Encode
    env: Env
    places: Places
    codes: Codes
    group_of: Tensor | None
    logw: Tensor | None
    columns: Mapping[str, Tensor]

    kind: ClassVar[str] = "coded"
    frozen: ClassVar[bool] = False

    @staticmethod
    def of(codec: Encode, env: Env, run: flat.Flat, *before: Coded) -> Coded:
        """Encode a run whose counts are multiples of the codec's group.

        before   all entries coded already, whose homes' parameters stay as they are; the latest know them all
        """
        where = homes(run.counts, run.shape, run.keys.device)
        keys = run.keys
        if env.rope is not None and codec.side == "pre":
            keys = rope.unrotate(keys, run.ordinals, env.rope)
        elif env.rope is not None:
            where = replace(where, positions=run.ordinals)
        home: dict[str, Tensor] = {}
        if isinstance(codec, Fitted):
            home = codec.fit(env, keys, run.values, where, len(run.counts))
        if before and home:
            is_new = torch.tensor([one.counts for one in before], device=keys.device).sum(0) == 0
            known = before[-1].codes.home
            home = {
                name: torch.where(is_new.view(-1, *[1] * (new.ndim - 1)), new, known[name])
                for name, new in home.items()
            }
        codes = codec.encode(env, keys, run.values, where, home)
        places = Places.of(run.ordinals, run.counts, run.shape)
        return Coded(codec, env, places, replace(codes, home=home), None, run.logw, run.columns)

    @property
    def shape(self) -> tuple[int, int]:
        return self.places.shape

    @property
    def counts(self) -> tuple[int, ...]:
        return self.places.counts

    @property
    def device(self) -> torch.device:
        return next(iter(self.codes.entry.values())).device

    @property
    def bounds(self) -> tuple[int, ...]:
        return flat.bounds_of(self.counts)

    def groups_in_rows(self) -> list[int]:
        """Groups whose parameters are held, per row."""
        if not self.codes.group:
            return [0] * self.shape[0]
        edges = self.bounds[:: self.shape[1]]
        groups = self.groups()
        return [groups[a:b].unique().numel() for a, b in itertools.pairwise(edges)]

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.counts, dtype=torch.int32, device=self.device).view(self.shape)

    def decoded(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys [n, D] and values [n, Dv] of the flat entries begin … end − 1, whose edges are groups'."""
        codes, where = self._part(begin, end)
        dtype, positions = self.env.geometry.dtype, where.positions
        is_turned = self.codec.side == "post"
        if not is_turned:
            where = replace(where, positions=None)
        keys, values = self.codec.decode(self.env, codes, where, dtype)
        if is_turned or positions is None or self.env.rope is None:
            return keys, values
        return rope.apply(keys, positions, self.env.rope).to(dtype), values

    def _part(self, begin: int, end: int) -> tuple[Codes, Where]:
        """The codes of such entries, whose they are, and where they stand if the rotary embedding is known.

        Made for these entries alone: for all of a long segment it would take more room than they do.
        """
        edges, size, codes = self.bounds, self.codec.group, self.codes
        first, last = bisect.bisect_right(edges, begin) - 1, bisect.bisect_left(edges, end)
        cut = [min(max(edge, begin), end) for edge in edges[first : last + 1]]
        where = homes([b - a for a, b in itertools.pairwise(cut)], self.shape, self.device, first)
        entry = {name: tensor[begin:end] for name, tensor in codes.entry.items()}
        group = codes.group
        if self.group_of is not None:
            where = replace(where, group_of=self.group_of[begin:end].long())
        else:
            group = {name: tensor[begin // size : end // size] for name, tensor in group.items()}
        if self.env.rope is not None:
            where = replace(where, positions=self.places.between(begin, end))
        return Codes(entry, group, codes.home), where

    def attend(self, queries: Queries) -> tuple[Partial, Coded]:
        if (found := in_place.answer(self, queries)) is not None:
            return Partial(*found), self
        n_heads = self.shape[1]
        group = queries.q.shape[1] // n_heads
        out, lse = attend.empty(queries.q, self.env.geometry.value_dim)
        limit = self._limit(queries.q.shape[2])
        for row in range(self.shape[0]):
            edges = self.bounds[row * n_heads : (row + 1) * n_heads + 1]
            for begin in range(edges[0], edges[-1], limit):
                end = min(begin + limit, edges[-1])
                first = bisect.bisect_right(edges, begin) - 1
                last = bisect.bisect_left(edges, end)
                heads = slice(first * group, last * group)
                bounds = tuple(min(max(edge, begin), end) - begin for edge in edges[first : last + 1])
                part = self._answer(replace(queries, q=queries.q[row : row + 1, heads]), begin, first, bounds)
                own = out[row : row + 1, heads], lse[row : row + 1, heads]
                out[row : row + 1, heads], lse[row : row + 1, heads] = attend.merge(own, part)
        return Partial(out, lse), self

    def _answer(
        self, queries: Queries, begin: int, first: int, bounds: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """out [1, G·h, S, Dv], lse [1, G·h, S] over a block of the entries of h heads of one row.

        begin   where the block begins;  first: the head of its first entry;  bounds: see `Asked`
        """
        end, q, scale, softcap = begin + bounds[-1], queries.q, queries.scale, queries.softcap
        logw = None if self.logw is None else self.logw[begin:end]
        if isinstance(self.codec, Direct) and q.shape[2] == 1:
            asked = Asked(q[0, :, 0], first, bounds, scale, softcap, logw)
            out, lse = self.codec.attend(self.env, *self._part(begin, end), asked)
            return out[None, :, None], lse[None, :, None]
        keys, values = self.decoded(begin, end)
        return attend.ragged(q, keys, values, bounds=bounds, scale=scale, softcap=softcap, logw=logw)

    def _limit(self, n_queries: int) -> int:
        """Entries that one read decodes at once, in whole groups."""
        limit = max(1, READ_BYTES // self.env.geometry.entry_bytes)
        if n_queries == 1:
            least = LEAST_BYTES // self.env.geometry.entry_bytes
            turns = 2 if self.codec.side == "pre" and self.env.rope is not None else 1
            limit = max(1, min(limit, max(least, self.bounds[-1] // SHARE) // turns))
        return -(-limit // self.codec.group) * self.codec.group

    def entries(self) -> Entries:
        index, live = flat.padded_index(self.bounds, self.shape, self.device)
        total = self.bounds[-1]

        @functools.cache
        def both() -> tuple[Tensor, Tensor]:
            return self.decoded(0, total)

        return Entries(
            self.lengths,
            live,
            self.places.all()[index].masked_fill(~live, -1),
            None if self.logw is None else self.logw[index].masked_fill(~live, 0),
            {name: column[index].masked_fill(~live, 0) for name, column in self.columns.items()},
            lambda: both()[0][index].masked_fill(~live[..., None], 0),
            lambda: both()[1][index].masked_fill(~live[..., None], 0),
        )

    def groups(self) -> Tensor:
        """int64 [N]: the group of every entry."""
        if self.group_of is not None:
            return self.group_of.long()
        return torch.arange(self.bounds[-1], device=self.device) // self.codec.group

    def picked(
        self,
        order: Tensor,
        counts: tuple[int, ...],
        shape: tuple[int, int] | None = None,
        entry: Mapping[str, Tensor] | None = None,
    ) -> Coded:
        """The entries `order` (int64 [M]) with these counts; groups without entries leave.

        entry   their own tensors [M, …], where these are not at hand
        """
        group_of, group = None, self.codes.group
        if group:
            used, group_of = torch.unique(self.groups()[order], return_inverse=True)
            group = {name: tensor[used] for name, tensor in group.items()}
            group_of = group_of.int()
        if entry is None:
            entry = {name: tensor[order] for name, tensor in self.codes.entry.items()}
        return Coded(
            self.codec,
            self.env,
            Places.of(self.places.all()[order], counts, shape or self.shape),
            Codes(entry, group, self.codes.home),
            group_of,
            None if self.logw is None else self.logw[order],
            {name: column[order] for name, column in self.columns.items()},
        )

    def take(self, keep: Tensor) -> Coded | None:
        """The entries where keep [B, H, T] is true."""
        if not bool(keep.any()):
            return None
        index, live = flat.padded_index(self.bounds, self.shape, self.device)
        if bool((keep == live).all()):
            return self
        return self.picked(index[keep], tuple(keep.sum(-1).flatten().tolist()))

    def with_columns(self, columns: Mapping[str, Tensor]) -> Coded:
        _, live = flat.padded_index(self.bounds, self.shape, self.device)
        return replace(self, columns={name: column[live] for name, column in columns.items()})

    def rows(self, index: Tensor) -> Coded:
        # Rows that repeat share no storage, so their groups must not be shared either.
        return joined([self._only(row) for row in index.tolist()], "rows")

    def _only(self, row: int) -> Coded:
        n_heads, bounds = self.shape[1], self.bounds
        mine = slice(row * n_heads, (row + 1) * n_heads)
        order = torch.arange(bounds[mine.start], bounds[mine.stop], device=self.device)
        picked = self.picked(order, self.counts[mine], (1, n_heads))
        home = {name: tensor[mine] for name, tensor in self.codes.home.items()}
        return replace(picked, codes=replace(picked.codes, home=home))

    def tensors(self) -> Iterable[Named]:
        tier = self.device.type
        for name, tensor in self.codes.entry.items():
            yield ("scales" if name.startswith("scale") else "codes"), tier, tensor
        for tensor in (*self.codes.group.values(), *self.codes.home.values()):
            yield "scales", tier, tensor
        if self.group_of is not None:
            yield "index", tier, self.group_of
        yield from self.places.tensors()
        if self.logw is not None:
            yield "logw", tier, self.logw
        for column in self.columns.values():
            yield "columns", tier, column


def homes(counts: Sequence[int], shape: tuple[int, int], device: torch.device, first: int = 0) -> Where:
    """Whose the entries of a flat run are, which begins with those of the (row, head) number `first`."""
    sizes = torch.tensor(counts, dtype=torch.long, device=device)
    own = torch.arange(first, first + len(counts), device=device).repeat_interleave(sizes)
    return Where(own % shape[1], own)
