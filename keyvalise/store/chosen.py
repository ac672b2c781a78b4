"""Keeping what was chosen: codes keep their own, raw entries end up in one exactly fitting segment."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.arena import Arena
from keyvalise.store.coded import Coded
from keyvalise.store.indexed import Indexed
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.store.roll import Roll
from keyvalise.store.tail import Tail
from keyvalise.store.tokens import Tokens
from keyvalise.types.data import Choice, Entries, Memory
from keyvalise.types.segment import Angle, Writable


def keep(
    memory: Memory, roll: Roll, choice: Choice, rows: tuple[bool, ...], angle: Angle = "absolute"
) -> Memory:
    """In these rows only the chosen entries, in the others all; raw ones end up in one exactly fitting
    segment.
    """
    frozen = tuple(segment for segment in memory.segments if segment.frozen)
    if not all(rows):
        choice = _in_rows(choice, roll.entries, rows)
    keeps = roll.split(choice.keep & roll.entries.live, False)
    adds = None if choice.add_logw is None else roll.split(choice.add_logw.float())
    coded: list[Coded | Tokens | None] = []
    raw = []
    for i, segment in enumerate(roll.segments):
        segment = segment.opened() if isinstance(segment, Indexed) else segment
        if isinstance(segment, Tokens):
            coded.append(segment.take(keeps[i]))
        elif isinstance(segment, Coded):
            coded.append(segment.take(keeps[i]) if adds is None else _weighted(segment, keeps[i], adds[i]))
        else:
            run = _rewritten(segment.flat(keeps[i]), keeps[i], roll, i, choice)  # type: ignore[attr-defined]
            raw.append(run if adds is None else _add_logw(run, adds[i][keeps[i]]))
    segments = [segment for segment in coded if segment is not None]
    return replace(memory, segments=(*frozen, *segments, packed(flat.join(raw), memory.clock, angle)))


def _in_rows(choice: Choice, entries: Entries, rows: tuple[bool, ...]) -> Choice:
    mine = torch.tensor(rows, device=entries.live.device)[:, None, None]
    add = None if choice.add_logw is None else choice.add_logw.masked_fill(~mine, 0)
    keys = None if choice.keys is None else torch.where(mine[..., None], choice.keys, entries.keys())
    values = None if choice.values is None else torch.where(mine[..., None], choice.values, entries.values())
    return Choice(torch.where(mine, choice.keep, entries.live), add, keys, values)


def _rewritten(run: flat.Flat, keep: Tensor, roll: Roll, i: int, choice: Choice) -> flat.Flat:
    """The kept run of segment i with the content that the choice gives it."""
    if choice.keys is None and choice.values is None:
        return run
    places = torch.arange(roll.entries.live.shape[-1], device=keep.device).expand_as(roll.entries.live)
    row, head, _ = at = keep.nonzero(as_tuple=True)
    slot = roll.split(places)[i][at]
    keys = run.keys if choice.keys is None else choice.keys[row, head, slot].to(run.keys.dtype)
    values = run.values if choice.values is None else choice.values[row, head, slot].to(run.values.dtype)
    return replace(run, keys=keys, values=values)


def _add_logw(run: flat.Flat, add: Tensor) -> flat.Flat:
    return replace(run, logw=add if run.logw is None else run.logw + add)


def _weighted(segment: Coded, keep: Tensor, add: Tensor) -> Coded | None:
    taken = segment.take(keep)
    if taken is None:
        return None
    return replace(taken, logw=add[keep] if taken.logw is None else taken.logw + add[keep])


def packed(run: flat.Flat, clock: tuple[int, ...], angle: Angle = "absolute") -> Writable:
    """A run as the leanest raw segment: a tail where all heads are equally long, if only empty; else ragged.
    Heads that hold the same tokens share their places.
    """
    n_rows, n_heads = run.shape
    if not run.is_uniform:
        return Ragged.of(run, angle)
    n = run.counts[0]
    shape = (n_rows, n_heads, n)
    arena = Arena(run.keys.view(*shape, run.keys.shape[1]), run.values.view(*shape, run.values.shape[1]))
    if n == 0:
        return Tail(arena, (0,) * n_rows, clock, angle=angle)
    columns = {name: column.view(shape) for name, column in run.columns.items()}
    logw = None if run.logw is None else run.logw.view(shape)
    starts = tuple(seen - n for seen in clock)
    head: Places | None = _shared(run.ordinals.view(shape)) or Places.of(run.ordinals, run.counts, run.shape)
    if head is not None and logw is None and head.starts == starts:
        head = None
    return Tail(arena, (n,) * n_rows, starts, head, logw, columns, angle)


def _shared(ordinals: Tensor) -> Places | None:
    """The places [B, 1, n] of ordinals [B, H, n] that are the same in all heads, if there are several."""
    one = ordinals[:, :1]
    if ordinals.shape[1] == 1 or not bool((ordinals == one).all()):
        return None
    n_rows, _, n = one.shape
    return Places.of(one.flatten().clone(), (n,) * n_rows, (n_rows, 1))
