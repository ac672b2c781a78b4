"""The best entries of chosen units, in all blocks together, answer one query per head.

Lists    of a row's kv heads, or of its query heads where these chose units: each reads entries of its own
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from keyvalise.ops import units
from keyvalise.store.block import Block
from keyvalise.store.ragged import Ragged
from keyvalise.types.data import Partial, Queries
from keyvalise.types.quantity import Amount


class _Found(NamedTuple):
    """Of one block: places of entries int64 [M], list by list, and the edges of the lists."""

    block: Block
    places: Tensor
    edges: tuple[int, ...]

    def of(self, number: int) -> Tensor:
        """The places of one list."""
        return self.places[slice(*self.edges[number : number + 2])]


def read(
    blocks: Sequence[Block], chosen: Sequence[Tensor], queries: Queries, amount: Amount
) -> list[Partial]:
    """What the best entries of every block's chosen units answer, see `picked`."""
    best = picked(blocks, chosen, queries, amount)
    return [block.answer(queries, *own) for block, own in zip(blocks, best, strict=True)]


def picked(
    blocks: Sequence[Block], chosen: Sequence[Tensor], queries: Queries, amount: Amount
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Of every block where the best entries lie, int64 [M], list by list, and how many are in every list;
    `chosen`: a block's units, int64 [B, A, n] with −1 for none.

    amount   entries that every list reads, or a share of all that its kv head has in units
    """
    found = []
    for block, own in zip(blocks, chosen, strict=True):
        places, counts = block.listed(own)
        found.append(_Found(block, places, (0, *itertools.accumulate(counts))))
    n_lists, n_homes = len(found[0].edges) - 1, len(blocks[0].held.counts)
    held = torch.tensor([block.held.counts for block in blocks]).T[None]
    most = units.amounts(amount, held).clamp(min=1)[0].tolist()
    asked = queries.q.float().flatten(0, 1)[:, 0].unflatten(0, (n_lists, -1))
    kept: list[list[Tensor]] = [[] for _ in blocks]
    for number in range(n_lists):
        best = _best(found, number, asked[number], queries, most[number * n_homes // n_lists])
        for mine, one, is_best in zip(kept, found, best, strict=True):
            mine.append(one.of(number)[is_best])
    return [(torch.cat(mine), tuple(map(len, mine))) for mine in kept]


def _best(found: Sequence[_Found], number: int, q: Tensor, queries: Queries, n: int) -> list[Tensor]:
    """bool per block: which entries of a list are among the n that queries q [g, D] want most."""
    logits = torch.cat([_logits(one, number, q, queries) for one in found])
    is_best = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    # Where nothing weighs anything, a softmax has no number.
    wanted = logits.softmax(0).nan_to_num(0.0).sum(1)
    is_best[wanted.topk(min(n, len(wanted))).indices] = True
    return list(is_best.split([len(one.of(number)) for one in found]))


def _logits(one: _Found, number: int, q: Tensor, queries: Queries) -> Tensor:
    """float32 [n, g]: what queries think of the entries of a list."""
    held, places = one.block.held, one.of(number)
    assert isinstance(held, Ragged), "who asks for keys needs entries:near"
    logits = queries.scale * (held.keys[places].float() @ q.T)
    if queries.softcap is not None:
        logits = torch.tanh(logits / queries.softcap) * queries.softcap
    return logits if held.logw is None else logits + held.logw[places, None]
