"""Vectors as codewords of trained books: pieces side by side (product), or stages that add up (residual).

Axes     N entries, m pieces or stages, K codewords;  heads int [N]: which head's book an entry is written
         with
Books    product [H, m, K, D/m];  residual [H, m, K, D]
"""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import closest, kmeans


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length 1 and their lengths float16 [N, 1]; a row of zeros stays one."""
    length = x.norm(dim=-1, keepdim=True).clamp(max=torch.finfo(torch.float16).max).half()
    return x / length.to(x.dtype).masked_fill(length == 0, 1.0), length


def product(x: Tensor, heads: Tensor, books: Tensor) -> Tensor:
    """The nearest codeword of every piece: int64 [N, m] for x [N, D]."""
    n, (_, m, _, _) = x.shape[0], books.shape
    found = torch.empty(n, m, dtype=torch.long, device=x.device)
    for head in range(books.shape[0]):
        mine = (heads == head).nonzero()[:, 0]
        pieces = x[mine].unflatten(1, (m, -1)).transpose(0, 1)
        found[mine] = kmeans.nearest(pieces, books[head].to(x.dtype)).t()
    return found


def residual(x: Tensor, heads: Tensor, books: Tensor, beam: int = 1) -> Tensor:
    """A codeword of every stage, each nearest to what those before it left: int64 [N, m] for x [N, D].

    beam   partial sums that every stage hands on, the best of them; 1: greedy
    """
    found = torch.empty(x.shape[0], books.shape[1], dtype=torch.long, device=x.device)
    step = max(1, closest.BLOCK // (beam * max(books.shape[2], beam * x.shape[1])))
    for head in range(books.shape[0]):
        for mine in (heads == head).nonzero()[:, 0].split(step):
            found[mine] = _beamed(x[mine], books[head].to(x.dtype), beam)
    return found


def _beamed(x: Tensor, book: Tensor, beam: int) -> Tensor:
    """int64 [n, m] for x [n, D], book [m, K, D]."""
    n, dim = x.shape
    left, codes = x[:, None], torch.empty(n, 1, 0, dtype=torch.long, device=x.device)
    for stage in book:
        # ‖r − c‖² of what every sum leaves and every codeword.
        cost = left.square().sum(-1, keepdim=True) - 2 * left @ stage.t() + stage.square().sum(-1)
        best = cost.flatten(1).topk(min(beam, cost.shape[1] * cost.shape[2]), dim=-1, largest=False).indices
        before, word = best // stage.shape[0], best % stage.shape[0]
        left = left.gather(1, before[..., None].expand(-1, -1, dim)) - stage[word]
        codes = torch.cat(
            [codes.gather(1, before[..., None].expand(-1, -1, codes.shape[2])), word[..., None]], 2
        )
    return codes[:, 0]


def spelled(codes: Tensor, heads: Tensor, books: Tensor) -> Tensor:
    """What codes stand for, piece by piece: float32 [N, D] of int32 [N, m], product books."""
    _, m, n_words, size = books.shape
    pieces = torch.arange(m, dtype=torch.int32, device=books.device)
    place = (heads.int()[:, None] * m + pieces) * n_words + codes
    return books.flatten(0, 2).index_select(0, place.flatten()).view(len(codes), m * size).float()


def summed(codes: Tensor, heads: Tensor, books: Tensor) -> Tensor:
    """What codes stand for, stage by stage: float32 [N, D] of int32 [N, m], residual books."""
    first = heads.int() * books.shape[2]
    total = torch.zeros(len(codes), books.shape[3], device=books.device)
    for stage in range(books.shape[1]):
        total += books[:, stage].flatten(0, 1).index_select(0, first + codes[:, stage])
    return total
