"""What was chosen, after entries have come: rows that got none go on with their choice."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from keyvalise.ops import units
from keyvalise.store.block import Block
from keyvalise.types.retrieve import CHOICES, STALE, Memo


def memo(old: Memo, before: Sequence[Block], after: Sequence[Block], grown: Tensor) -> dict[str, Tensor]:
    """What is remembered, with units by their numbers among the blocks after.

    before, after   blocks that hold the same units in the same order, some joined, and new ones behind
    grown           bool [B]: rows whose choice holds no longer
    """
    if not old:
        return {}
    kept = {
        name: _renumbered(tensor, before, after) if name in CHOICES else tensor
        for name, tensor in old.items()
    }
    return {**kept, STALE: grown | old.get(STALE, torch.zeros_like(grown))}


def _renumbered(chosen: Tensor, before: Sequence[Block], after: Sequence[Block]) -> Tensor:
    """Units [B, A, m], −1 where there is none."""
    (n_rows, n_heads), n_lists = before[0].held.shape, chosen.shape[1]
    home = torch.arange(n_rows * n_lists).view(n_rows, n_lists, 1) * n_heads // n_lists
    old, new = _starts(before), _starts(after)
    ends, firsts = new.sum(1)[1:].tolist(), [0, *itertools.accumulate(block.n_units for block in after)]
    found = torch.full_like(chosen, -1)
    for i, own in enumerate(units.of_tables(chosen, [block.n_units for block in before])):
        j = bisect.bisect_right(ends, int(old[i].sum()))
        shift = (old[i] - new[j])[home] + firsts[j]
        found = torch.where(own >= 0, own + shift.to(chosen.device), found)
    return found


def _starts(blocks: Sequence[Block]) -> Tensor:
    """int64 [blocks + 1, B·H]: units of every (row, head) before each block, and of all."""
    counts = torch.tensor([block.counts for block in blocks])
    return torch.nn.functional.pad(counts.cumsum(0), (0, 0, 1, 0))
