"""Graphs of many heads at once, each over its own keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from keyvalise.ops import graph


class Graphs(NamedTuple):
    """edges int32 [B, H, U, M];  entry bool [B, H, U]: where the searches of a head begin."""

    edges: Tensor
    entry: Tensor


def build(
    keys: Tensor, lengths: Tensor, queries: Sequence[Tensor], *, degree: int, beam: int, truth: int = 100
) -> Graphs:
    """One graph per head of keys [B, H, T, D], of which the first `lengths` [B, H] live, for queries like
    those of its row, [H, m, D] each.
    """
    n_rows, n_heads, n_units = keys.shape[:3]
    edges = torch.full((n_rows, n_heads, n_units, 2 * degree), -1, dtype=torch.int32)
    entry = torch.zeros(n_rows, n_heads, n_units, dtype=torch.bool)
    for row, head in torch.nonzero(lengths).tolist():
        n = int(lengths[row, head])
        made = graph.build(keys[row, head, :n], queries[row][head], degree=degree, beam=beam, truth=truth)
        edges[row, head, :n], entry[row, head, made.entry] = made.edges, True
    return Graphs(edges, entry)


def search(
    graphs: Graphs, keys: Callable[[int], Tensor], q: Tensor, *, n: int, width: int
) -> tuple[Tensor, Tensor]:
    """The n best keys of every query, and their products.

    Shapes   keys(row·H + head) [m, D], q [B, H, G, D] → int64 [B, H, G, n], −1 where fewer were met, and
             float32 [B, H, G, n]
    """
    found = torch.full((*q.shape[:3], n), -1, dtype=torch.long)
    products = torch.full(found.shape, -torch.inf)
    for row, head in itertools.product(range(q.shape[0]), range(q.shape[1])):
        own = keys(row * q.shape[1] + head)
        if len(own) == 0:
            continue
        # Behind a head's own keys there may be anything.
        entry = int(graphs.entry[row, head, : len(own)].int().argmax())
        known = graph.Graph(graphs.edges[row, head, : len(own)], entry)
        k = min(n, len(own))
        best, _ = graph.search(known, own, q[row, head], k, max(k, min(width, len(own))))
        near = own[best.clamp(min=0).long()].float()
        found[row, head, :, :k] = best
        products[row, head, :, :k] = torch.einsum("gkd,gd->gk", near, q[row, head]).masked_fill(
            best < 0, -torch.inf
        )
    return found, products
