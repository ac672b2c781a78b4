"""Which tokens the entries of a run are: a list, or next to nothing where they follow one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.types.segment import Named


@dataclass(frozen=True)
class Places:
    """Ordinals of entries grouped by (row, head), ascending in every head.

    starts   per row: the ordinal with which every head of it begins, to run on without a gap; None: listed
    listed   int32 [M]: the ordinals of the rows that have gaps, one row behind the other
    """

    shape: tuple[int, int]
    counts: tuple[int, ...]
    starts: tuple[int | None, ...]
    listed: Tensor

    @staticmethod
    def of(ordinals: Tensor, counts: Sequence[int], shape: tuple[int, int]) -> Places:
        """The places of the flat run `ordinals`, int32 [N]."""
        starts = tuple(_starts(ordinals, counts, shape))
        if all(start is None for start in starts):
            return Places(shape, tuple(counts), starts, ordinals)
        gaps = [ordinals[a:b] for start, (a, b) in _edges(starts, counts, shape) if start is None]
        return Places(shape, tuple(counts), starts, torch.cat(gaps) if gaps else ordinals.new_empty(0))

    def all(self) -> Tensor:
        """int32 [N]: the ordinal of every entry."""
        if all(start is None for start in self.starts):
            return self.listed
        n_heads, edges, used = self.shape[1], flat.bounds_of(self.counts), 0
        found = torch.arange(edges[-1], dtype=torch.int32, device=self.listed.device)
        for row, start in enumerate(self.starts):
            mine = edges[row * n_heads : (row + 1) * n_heads + 1]
            if start is None:
                n = mine[-1] - mine[0]
                found[mine[0] : mine[-1]] = self.listed[used : used + n]
                used += n
                continue
            # In place: a reader asks for them at every step, and they shall take no more room than they have.
            for a, b in pairwise(mine):
                found[a:b] += start - a
        return found

    def between(self, begin: int, end: int) -> Tensor:
        """int32 [end − begin]: the ordinals of the entries begin … end − 1, at no cost for the others."""
        n_heads, edges, used, parts = self.shape[1], flat.bounds_of(self.counts), 0, []
        for row, start in enumerate(self.starts):
            mine = edges[row * n_heads : (row + 1) * n_heads + 1]
            if start is None:
                low, high = (min(max(edge, mine[0]), mine[-1]) - mine[0] for edge in (begin, end))
                parts.append(self.listed[used + low : used + high])
                used += mine[-1] - mine[0]
                continue
            for a, b in pairwise(mine):
                low, high = max(a, begin), min(b, end)
                if low < high:
                    span = (low - a + start, high - a + start)
                    parts.append(torch.arange(*span, dtype=torch.int32, device=self.listed.device))
        return parts[0] if len(parts) == 1 else torch.cat([self.listed[:0], *parts])

    def rows(self, index: Sequence[int]) -> Places:
        """The places of these rows, in this order."""
        n_heads, gaps, used = self.shape[1], [], 0
        for start, (a, b) in _edges(self.starts, self.counts, self.shape):
            gaps.append(self.listed[used : used + (b - a if start is None else 0)])
            used += b - a if start is None else 0
        counts = [n for row in index for n in self.counts[row * n_heads : (row + 1) * n_heads]]
        return Places(
            (len(index), n_heads),
            tuple(counts),
            tuple(self.starts[row] for row in index),
            torch.cat([gaps[row] for row in index]),
        )

    def tensors(self) -> Iterator[Named]:
        """What is held: nothing where no row has gaps."""
        if len(self.listed):
            yield "positions", self.listed.device.type, self.listed


def _edges(
    starts: Sequence[int | None], counts: Sequence[int], shape: tuple[int, int]
) -> Iterator[tuple[int | None, tuple[int, int]]]:
    """The start of every row, and where it lies in a flat run."""
    n_rows, n_heads = shape
    lengths = (sum(counts[row * n_heads : (row + 1) * n_heads]) for row in range(n_rows))
    return zip(starts, pairwise(accumulate(lengths, initial=0)), strict=True)


def _starts(ordinals: Tensor, counts: Sequence[int], shape: tuple[int, int]) -> list[int | None]:
    """Per row the ordinal that all its heads run on from, or None where some head does not; asks the device
    once.
    """
    n_rows, total = shape[0], len(ordinals)
    if total == 0:
        return [0] * n_rows
    if min(counts) == max(counts):
        heads = ordinals.view(*shape, -1)
        first = heads[:, 0, 0]
        run = torch.arange(counts[0], dtype=ordinals.dtype, device=ordinals.device)
        runs = (heads == first[:, None, None] + run).flatten(1).all(1)
    else:
        edges = [a for _, (a, _) in _edges((None,) * n_rows, counts, shape)]
        first = ordinals[torch.tensor([min(edge, total - 1) for edge in edges], device=ordinals.device)]
        sizes = torch.tensor([*edges[1:], total], device=ordinals.device)
        row = torch.repeat_interleave(sizes - torch.tensor(edges, device=ordinals.device))
        gap = ordinals != first[row] + flat.slots(counts, ordinals.device)
        runs = torch.zeros(n_rows, device=ordinals.device).index_add(0, row, gap.float()) == 0
    found: list[list[int]] = torch.stack([runs.long(), first.long()], 1).tolist()
    return [start if is_run else None for is_run, start in found]
