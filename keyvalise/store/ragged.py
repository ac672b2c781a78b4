"""Raw entries whose number differs from head to head, without a byte of padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat, slots
from keyvalise.store.places import Places
from keyvalise.types.data import Entries, Partial, Queries
from keyvalise.types.segment import Angle, Named


@dataclass(frozen=True)
class Ragged:
    """One flat run per (row, kv head): keys [N, D], values [N, Dv]; committed, so every later query sees all
    of it.
    """

    keys: Tensor
    values: Tensor
    places: Places
    logw: Tensor | None
    columns: Mapping[str, Tensor]
    bounds: tuple[int, ...]
    angle: Angle = "absolute"

    kind: ClassVar[str] = "ragged"
    frozen: ClassVar[bool] = False

    @staticmethod
    def of(run: flat.Flat, angle: Angle = "absolute") -> Ragged:
        places = Places.of(run.ordinals, run.counts, run.shape)
        bounds = flat.bounds_of(run.counts)
        return Ragged(run.keys, run.values, places, run.logw, run.columns, bounds, angle)

    @property
    def shape(self) -> tuple[int, int]:
        return self.places.shape

    @property
    def counts(self) -> tuple[int, ...]:
        return self.places.counts

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.counts, dtype=torch.int32, device=self.keys.device).view(self.shape)

    def run(self) -> flat.Flat:
        """The entries as a flat run."""
        return flat.Flat(
            self.shape, self.counts, self.keys, self.values, self.places.all(), self.logw, self.columns
        )

    def attend(self, queries: Queries) -> tuple[Partial, Ragged]:
        out, lse = attend.ragged(
            slots.turned_queries(queries),
            self._keys(queries),
            self.values,
            bounds=self.bounds,
            scale=queries.scale,
            softcap=queries.softcap,
            logw=self.logw,
        )
        return Partial(out, lse), self

    def _keys(self, queries: Queries) -> Tensor:
        """The keys as they are read: where they stand, or at their slots."""
        if queries.slot_shift is None:
            return self.keys
        slot = flat.slots(self.counts, self.keys.device)
        return slots.turned_keys(self.keys, slot - self.places.all(), queries)

    def entries(self) -> Entries:
        index, live = flat.padded_index(self.bounds, self.shape, self.keys.device)
        return Entries(
            self.lengths,
            live,
            self.places.all()[index].masked_fill(~live, -1),
            None if self.logw is None else self.logw[index].masked_fill(~live, 0),
            {name: column[index].masked_fill(~live, 0) for name, column in self.columns.items()},
            lambda: self.keys[index].masked_fill(~live[..., None], 0),
            lambda: self.values[index].masked_fill(~live[..., None], 0),
        )

    def flat(self, keep: Tensor) -> flat.Flat:
        """The entries where keep [B, H, T] is true."""
        index, _ = flat.padded_index(self.bounds, self.shape, self.keys.device)
        return self.run().index(index[keep], tuple(keep.sum(-1).flatten().tolist()))

    def with_columns(self, columns: Mapping[str, Tensor]) -> Ragged:
        _, live = flat.padded_index(self.bounds, self.shape, self.keys.device)
        return replace(self, columns={name: column[live] for name, column in columns.items()})

    def rows(self, index: Tensor) -> Ragged:
        n_heads = self.shape[1]
        order: list[Tensor] = []
        counts: list[int] = []
        for row in index.tolist():
            begin, end = self.bounds[row * n_heads], self.bounds[(row + 1) * n_heads]
            order.append(torch.arange(begin, end, device=self.keys.device))
            counts += self.counts[row * n_heads : (row + 1) * n_heads]
        run = self.run().index(torch.cat(order), tuple(counts))
        return Ragged.of(replace(run, shape=(len(order), n_heads)), self.angle)

    def tensors(self) -> Iterable[Named]:
        tier = self.keys.device.type
        yield "keys", tier, self.keys
        yield "values", tier, self.values
        yield from self.places.tensors()
        if self.logw is not None:
            yield "logw", tier, self.logw
        for column in self.columns.values():
            yield "columns", tier, column
