"""Runs of entries grouped by (row, head), raw or coded, near or far: picked, split and joined alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.joining import joined
from keyvalise.store.ragged import Ragged
from keyvalise.store.stowed import Stowed
from keyvalise.types.retrieve import Place
from keyvalise.types.slow import Slow

Near = Ragged | Coded
Run = Near | Stowed


def near(run: Run) -> Near:
    """The run where the model computes."""
    return run.loaded() if isinstance(run, Stowed) else run


def shadow(run: Run) -> Ragged:
    """The same entries without keys and values."""
    empty = torch.empty(run.bounds[-1], 0, device=run.places.listed.device)
    logw = (run.like if isinstance(run, Stowed) else run).logw
    return Ragged(empty, empty, run.places, logw, {}, run.bounds)


def placed(run: Near, place: Place, slow: Slow | None) -> Run:
    """The run where a reader wants it.

    Raises   NoRoom or TierLost
    """
    if place.tier == "device":
        return run
    return Stowed.of(run, place, Slow() if slow is None else slow)


def picked(run: Near, order: Tensor, counts: tuple[int, ...]) -> Near:
    """The entries `order` (int64 [M]) with these counts per (row, head)."""
    if isinstance(run, Coded):
        return run.picked(order, counts)
    return Ragged.of(run.run().index(order, counts))


def taken(run: Near, keep: Tensor) -> Near:
    """The entries where keep [B, H, T] is true, if any."""
    index, _ = flat.padded_index(run.bounds, run.shape, keep.device)
    return picked(run, index[keep], tuple(keep.sum(-1).flatten().tolist()))


def together(runs: Sequence[Near]) -> Near:
    """Runs of one kind as one, later ones behind earlier ones in every head."""
    coded = [run for run in runs if isinstance(run, Coded)]
    if coded:
        return joined(coded)
    return Ragged.of(flat.join([run.run() for run in runs if isinstance(run, Ragged)]))


def sorted_by_ordinal(run: Near) -> Near:
    """The same entries, ascending in every head."""
    ordinals = run.places.all()
    width = int(ordinals.max()) + 1 if len(ordinals) else 1
    home = torch.repeat_interleave(torch.tensor(run.counts, device=ordinals.device))
    return picked(run, torch.argsort(home * width + ordinals), run.counts)
