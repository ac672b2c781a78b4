"""Entries in few bits: immutable codes, written once, read block by block.

Knows the codec only by its protocol. Entries that leave take their own codes along; parameters that a group
of entries shares leave with the group's last entry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat
from keyvalise.store.places import Places
from keyvalise.types.data import Entries, Env, Partial, Queries
from keyvalise.types.part import Codes, Encode
from keyvalise.types.segment import Named

READ_BYTES = 16 * 2**20
"""Most bytes of decoded keys and values that one read holds at once."""


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
    def of(codec: Encode, env: Env, run: flat.Flat) -> Coded:
        """Encode a run whose counts are multiples of the codec's group."""
        codes = codec.encode(env, run.keys, run.values)
        places = Places.of(run.ordinals, run.counts, run.shape)
        return Coded(codec, env, places, codes, None, run.logw, run.columns)

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
        groups = self._groups()
        return [groups[a:b].unique().numel() for a, b in itertools.pairwise(edges)]

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.counts, dtype=torch.int32, device=self.device).view(self.shape)

    def decoded(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Keys [n, D] and values [n, Dv] of the flat entries begin … end − 1, whose edges are heads'
        edges.
        """
        entry = {name: tensor[begin:end] for name, tensor in self.codes.entry.items()}
        if self.group_of is not None:
            groups = self.group_of[begin:end].long()
            return self.codec.decode(
                self.env, Codes(entry, self.codes.group), self.env.geometry.dtype, groups
            )
        size = self.codec.group
        group = {name: tensor[begin // size : end // size] for name, tensor in self.codes.group.items()}
        return self.codec.decode(self.env, Codes(entry, group), self.env.geometry.dtype, None)

    def attend(self, queries: Queries) -> tuple[Partial, Coded]:
        n_heads = self.shape[1]
        group = queries.q.shape[1] // n_heads
        out, lse = attend.empty(queries.q, self.env.geometry.value_dim)
        for row in range(self.shape[0]):
            for first, last in self._strips(row):
                bounds = self.bounds[row * n_heads + first : row * n_heads + last + 1]
                keys, values = self.decoded(bounds[0], bounds[-1])
                heads = slice(first * group, last * group)
                part = attend.ragged(
                    queries.q[row : row + 1, heads],
                    keys,
                    values,
                    bounds=[edge - bounds[0] for edge in bounds],
                    scale=queries.scale,
                    softcap=queries.softcap,
                    logw=None if self.logw is None else self.logw[bounds[0] : bounds[-1]],
                )
                out[row, heads], lse[row, heads] = part[0][0], part[1][0]
        return Partial(out, lse), self

    def _strips(self, row: int) -> Iterable[tuple[int, int]]:
        """Runs of heads whose decoded entries fit into READ_BYTES (at least one head each)."""
        n_heads = self.shape[1]
        limit = max(1, READ_BYTES // self.env.geometry.entry_bytes)
        first, held = 0, 0
        for head in range(n_heads):
            n = self.counts[row * n_heads + head]
            if held and held + n > limit:
                yield first, head
                first, held = head, 0
            held += n
        yield first, n_heads

    def entries(self) -> Entries:
        index, live = flat.padded_index(self.bounds, self.shape, self.device)
        total = self.bounds[-1]
        return Entries(
            self.lengths,
            live,
            self.places.all()[index].masked_fill(~live, -1),
            None if self.logw is None else self.logw[index].masked_fill(~live, 0),
            {name: column[index].masked_fill(~live, 0) for name, column in self.columns.items()},
            lambda: self.decoded(0, total)[0][index].masked_fill(~live[..., None], 0),
            lambda: self.decoded(0, total)[1][index].masked_fill(~live[..., None], 0),
        )

    def _groups(self) -> Tensor:
        """int64 [N]: the group of every entry."""
        if self.group_of is not None:
            return self.group_of.long()
        return torch.arange(self.bounds[-1], device=self.device) // self.codec.group

    def picked(self, order: Tensor, counts: tuple[int, ...], shape: tuple[int, int] | None = None) -> Coded:
        """The entries `order` (int64 [M]) with these counts; groups without entries leave."""
        group_of, group = None, self.codes.group
        if group:
            used, group_of = torch.unique(self._groups()[order], return_inverse=True)
            group = {name: tensor[used] for name, tensor in group.items()}
            group_of = group_of.int()
        return Coded(
            self.codec,
            self.env,
            Places.of(self.places.all()[order], counts, shape or self.shape),
            Codes({name: tensor[order] for name, tensor in self.codes.entry.items()}, group),
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
        n_heads, bounds = self.shape[1], self.bounds
        order: list[Tensor] = []
        counts: list[int] = []
        for row in index.tolist():
            order.append(torch.arange(bounds[row * n_heads], bounds[(row + 1) * n_heads]))
            counts += self.counts[row * n_heads : (row + 1) * n_heads]
        # Rows that repeat share no storage, so their groups must not be shared either.
        return joined(
            [self._only(o, counts[i * n_heads : (i + 1) * n_heads]) for i, o in enumerate(order)], "rows"
        )

    def _only(self, order: Tensor, counts: Sequence[int]) -> Coded:
        return self.picked(order.to(self.device), tuple(counts), (1, self.shape[1]))

    def tensors(self) -> Iterable[Named]:
        tier = self.device.type
        for name, tensor in self.codes.entry.items():
            yield ("scales" if name.startswith("scale") else "codes"), tier, tensor
        for tensor in self.codes.group.values():
            yield "scales", tier, tensor
        if self.group_of is not None:
            yield "index", tier, self.group_of
        yield from self.places.tensors()
        if self.logw is not None:
            yield "logw", tier, self.logw
        for column in self.columns.values():
            yield "columns", tier, column


def joined(parts: Sequence[Coded], along: str = "entries") -> Coded:
    """Coded runs as one: later entries behind earlier ones in every head, or rows below rows."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    device = first.device
    if along == "rows":
        shape = (sum(part.shape[0] for part in parts), first.shape[1])
        counts = tuple(n for part in parts for n in part.counts)
        order = torch.arange(sum(counts), device=device)
    else:
        shape = first.shape
        counts = tuple(sum(row) for row in zip(*(part.counts for part in parts), strict=True))
        order = flat.regroup([part.counts for part in parts], device)
    group, group_of = _join_groups(parts, order)
    entry = {name: torch.cat([part.codes.entry[name] for part in parts])[order] for name in first.codes.entry}
    names = sorted(set().union(*(part.columns for part in parts)))
    places = [part.places.all() for part in parts]
    zeros = [torch.zeros(place.shape, device=device) for place in places]
    return Coded(
        first.codec,
        first.env,
        Places.of(torch.cat(places)[order], counts, shape),
        Codes(entry, group),
        group_of,
        flat.join_logw([part.logw for part in parts], places, order),
        {name: torch.cat([part.columns.get(name, zero) for part, zero in zip(parts, zeros,
        strict=True)])[order]
         for name in names},
    )  # fmt: skip


def _join_groups(parts: Sequence[Coded], order: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    """Group tensors one behind another, and where every reordered entry finds its own."""
    names = parts[0].codes.group
    if not names:
        return {}, None
    group = {name: torch.cat([part.codes.group[name] for part in parts]) for name in names}
    offset, homes = 0, []
    for part in parts:
        homes.append(part._groups() + offset)
        offset += next(iter(part.codes.group.values())).shape[0]
    home = torch.cat(homes)[order]
    # Whole groups in their heads' order need no pointer: the group tensors are put into that order instead.
    size = parts[0].codec.group
    if home.numel() % size == 0 and bool((home.view(-1, size) == home[::size, None]).all()):
        return {name: tensor[home[::size]] for name, tensor in group.items()}, None
    return group, home.int()
