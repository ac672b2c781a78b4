"""Runs of entries grouped by (row, head), raw or in code: picked, split and put together alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.joining import joined
from keyvalise.store.ragged import Ragged

Run = Ragged | Coded


def picked(run: Run, order: Tensor, counts: tuple[int, ...]) -> Run:
    """The entries `order` (int64 [M]) with these counts per (row, head)."""
    if isinstance(run, Coded):
        return run.picked(order, counts)
    return Ragged.of(run.run().index(order, counts))


def taken(run: Run, keep: Tensor) -> Run:
    """The entries where keep [B, H, T] is true, if any."""
    index, _ = flat.padded_index(run.bounds, run.shape, keep.device)
    return picked(run, index[keep], tuple(keep.sum(-1).flatten().tolist()))


def together(runs: Sequence[Run]) -> Run:
    """Runs of one kind as one, later ones behind earlier ones in every head."""
    coded = [run for run in runs if isinstance(run, Coded)]
    if coded:
        return joined(coded)
    return Ragged.of(flat.join([run.run() for run in runs if isinstance(run, Ragged)]))


def sorted_by_ordinal(run: Run) -> Run:
    """The same entries, ascending in every head."""
    ordinals = run.places.all()
    width = int(ordinals.max()) + 1 if len(ordinals) else 1
    home = torch.repeat_interleave(torch.tensor(run.counts, device=ordinals.device))
    return picked(run, torch.argsort(home * width + ordinals), run.counts)
