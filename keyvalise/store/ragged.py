"""Raw entries whose number differs from head to head, without a byte of padding."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from keyvalise.ops import attend
from keyvalise.store import flat, slots
from keyvalise.types.data import Entries, Partial, Queries
from keyvalise.types.segment import Angle, Named


@dataclass(frozen=True)
class Ragged:
    """One flat run per (row, kv head); committed, so every later query sees all of it."""

    run: flat.Flat
    bounds: tuple[int, ...]
    angle: Angle = "absolute"

    kind: ClassVar[str] = "ragged"
    frozen: ClassVar[bool] = False

    @staticmethod
    def of(run: flat.Flat, angle: Angle = "absolute") -> Ragged:
        return Ragged(run, flat.bounds_of(run.counts), angle)

    @property
    def lengths(self) -> Tensor:
        return torch.tensor(self.run.counts, dtype=torch.int32, device=self.run.keys.device).view(
            self.run.shape
        )

    def attend(self, queries: Queries) -> tuple[Partial, Ragged]:
        out, lse = attend.ragged(
            slots.turned_queries(queries),
            self._keys(queries),
            self.run.values,
            bounds=self.bounds,
            scale=queries.scale,
            softcap=queries.softcap,
            logw=self.run.logw,
        )
        return Partial(out, lse), self

    def _keys(self, queries: Queries) -> Tensor:
        """The keys as they are read: where they stand, or at their slots."""
        run = self.run
        if queries.slot_shift is None:
            return run.keys
        slot = flat.slots(run.counts, run.keys.device)
        return slots.turned_keys(run.keys, slot - run.ordinals, queries)

    def entries(self) -> Entries:
        run = self.run
        index, live = flat.padded_index(self.bounds, run.shape, run.keys.device)
        return Entries(
            self.lengths,
            live,
            run.ordinals[index].masked_fill(~live, -1),
            None if run.logw is None else run.logw[index].masked_fill(~live, 0),
            {name: column[index].masked_fill(~live, 0) for name, column in run.columns.items()},
            lambda: run.keys[index].masked_fill(~live[..., None], 0),
            lambda: run.values[index].masked_fill(~live[..., None], 0),
        )

    def flat(self, keep: Tensor) -> flat.Flat:
        """The entries where keep [B, H, T] is true."""
        index, _ = flat.padded_index(self.bounds, self.run.shape, self.run.keys.device)
        return self.run.index(index[keep], tuple(keep.sum(-1).flatten().tolist()))

    def with_columns(self, columns: Mapping[str, Tensor]) -> Ragged:
        index, live = flat.padded_index(self.bounds, self.run.shape, self.run.keys.device)
        flatten = {name: column[live] for name, column in columns.items()}
        return Ragged(replace(self.run, columns=flatten), self.bounds, self.angle)

    def rows(self, index: Tensor) -> Ragged:
        n_heads = self.run.shape[1]
        order: list[Tensor] = []
        counts: list[int] = []
        for row in index.tolist():
            begin, end = self.bounds[row * n_heads], self.bounds[(row + 1) * n_heads]
            order.append(torch.arange(begin, end, device=self.run.keys.device))
            counts += self.run.counts[row * n_heads : (row + 1) * n_heads]
        run = self.run.index(torch.cat(order), tuple(counts))
        return Ragged.of(replace(run, shape=(len(order), n_heads)), self.angle)

    def tensors(self) -> Iterable[Named]:
        run = self.run
        tier = run.keys.device.type
        yield "keys", tier, run.keys
        yield "values", tier, run.values
        yield "positions", tier, run.ordinals
        if run.logw is not None:
            yield "logw", tier, run.logw
        for column in run.columns.values():
            yield "columns", tier, column
