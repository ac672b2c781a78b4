"""Coded runs as one: later entries behind earlier ones, or rows below rows; no code is written anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.places import Places
from keyvalise.types.code import Codes

if TYPE_CHECKING:
    from keyvalise.store.coded import Coded


def joined(parts: Sequence[Coded], along: str = "entries") -> Coded:
    """Coded runs as one: later entries behind earlier ones in every head, or rows below rows.

    What homes share is the last part's, which was coded with the parameters of those before it.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    device = first.device
    if along == "rows":
        shape = (sum(part.shape[0] for part in parts), first.shape[1])
        counts = tuple(n for part in parts for n in part.counts)
        order = torch.arange(sum(counts), device=device)
        home = {name: torch.cat([part.codes.home[name] for part in parts]) for name in first.codes.home}
    else:
        home = dict(parts[-1].codes.home)
        shape = first.shape
        counts = tuple(sum(row) for row in zip(*(part.counts for part in parts), strict=True))
        order = flat.regroup([part.counts for part in parts], device)
    group, group_of = _join_groups(parts, order)
    entry = {name: torch.cat([part.codes.entry[name] for part in parts])[order] for name in first.codes.entry}
    names = sorted(set().union(*(part.columns for part in parts)))
    places = [part.places.all() for part in parts]
    zeros = [torch.zeros(place.shape, device=device) for place in places]
    return replace(
        first,
        places=Places.of(torch.cat(places)[order], counts, shape),
        codes=Codes(entry, group, home),
        group_of=group_of,
        logw=flat.join_logw([part.logw for part in parts], places, order),
        columns={name: torch.cat([part.columns.get(name, zero) for part, zero in zip(parts, zeros,
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
        homes.append(part.groups() + offset)
        offset += next(iter(part.codes.group.values())).shape[0]
    home = torch.cat(homes)[order]
    # Whole groups in their heads' order need no pointer: the group tensors are put into that order instead.
    size = parts[0].codec.group
    if home.numel() % size == 0 and bool((home.view(-1, size) == home[::size, None]).all()):
        return {name: tensor[home[::size]] for name, tensor in group.items()}, None
    return group, home.int()
