"""Entries in units over random runs, and what reading some of them must answer, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from keyvalise.recipe.object import Recipe
from keyvalise.recipe.reader import Reader
from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.store.indexed import Indexed
from keyvalise.store.ragged import Ragged
from keyvalise.types.data import Env, Partial, Queries
from tests.support.segments import PlainEncode, Runs, reference


def reader(text: str) -> Reader:
    """The reader that a recipe's text describes."""
    found = Recipe.parse(text).reader
    assert found is not None
    return found


def indexed(
    runs: Runs,
    text: str,
    kind: str = "ragged",
    cuts: tuple[int, ...] = (),
    env: Env | None = None,
    stats: Mapping[str, Tensor] | None = None,
) -> Indexed:
    """The entries in units, added in blocks that end at these entries of every head; ordinals are slots."""
    env = env or Env(0, runs.geometry)
    found = Indexed(reader(text), env)
    slots = flat.slots(runs.counts, torch.device("cpu"))
    for begin, end in pairwise((0, *cuts, max(runs.counts))):
        mine = (slots >= begin) & (slots < end)
        run = replace(runs.pick(mine).flat(), ordinals=slots[mine])
        found = found.grown(
            Coded.of(PlainEncode(), env, run) if kind == "coded" else Ragged.of(run), env, stats or {}
        )  # type: ignore[arg-type]
    return found


def members(segment: Indexed, runs: Runs, units: Tensor) -> Tensor:
    """bool [B, Hq, N]: which entries of the flat run are in these units, int64 [B, A, n], of every query
    head.
    """
    n_rows, n_heads, n_query = *runs.shape, runs.geometry.n_query_heads
    edges, chosen = flat.bounds_of(runs.counts), torch.zeros(n_rows, n_query, sum(runs.counts)).bool()
    for row in range(n_rows):
        for head in range(n_query):
            kv, asked = head // (n_query // n_heads), head * units.shape[1] // n_query
            for unit in units[row, asked].tolist():
                for slot in entries_of(segment, row, kv, unit):
                    assert not chosen[row, head, edges[row * n_heads + kv] + slot], "an entry is read twice"
                    chosen[row, head, edges[row * n_heads + kv] + slot] = True
    return chosen


def entries_of(segment: Indexed, row: int, head: int, unit: int) -> list[int]:
    """Ordinals of a unit's entries; none for −1."""
    for block in segment.blocks:
        n = block.n_units
        if 0 <= unit < n:
            home = row * segment.shape[1] + head
            if unit >= block.counts[home]:
                return []
            ends = [0, *block.padded(block.ends)[row, head].tolist()]
            own = slice(block.held.bounds[home] + ends[unit], block.held.bounds[home] + ends[unit + 1])
            return [int(ordinal) for ordinal in block.held.places.all()[own]]
        unit = unit - n if unit >= 0 else unit
    return []


def always_read(segment: Indexed, runs: Runs) -> Tensor:
    """bool [N]: the first tokens."""
    return flat.slots(runs.counts, torch.device("cpu")) < segment.retrieve.read.sinks


def answer(queries: Queries, runs: Runs, read: Tensor) -> Partial:
    """Attention of one query per head over the entries where read [B, Hq, N] is true, float64."""
    group = runs.geometry.group
    turns = []
    for g in range(group):
        home = torch.arange(len(runs.counts)).repeat_interleave(torch.tensor(runs.counts))
        row, kv = home // runs.shape[1], home % runs.shape[1]
        mine = read[row, kv * group + g, torch.arange(len(home))]
        part = replace(runs, geometry=replace(runs.geometry, n_query_heads=runs.geometry.n_kv_heads))
        turns.append(reference(queries.q[:, g::group], part.pick(mine)))
    out = torch.stack([turn.out for turn in turns], 2).flatten(1, 2)
    return Partial(out, torch.stack([turn.lse for turn in turns], 2).flatten(1, 2))
