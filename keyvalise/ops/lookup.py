"""Attention over entries that are codewords, without spelling them out: logits are sums of looked-up
products, and outputs are codewords weighed with the mass that fell on them.

Axes     G queries of one head, n entries, m pieces or stages, K codewords
Book     of one head: product [m, K, D/m], residual [m, K, D]
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from keyvalise.types.code import Asked

Dots = Callable[[Tensor, int, slice], Tensor]
"""(queries float32 [G, D], kv head, its entries in the block) → q·k̂ float32 [G, n]."""

Weighed = Callable[[Tensor, int, slice], Tensor]
"""(weights float32 [G, n], kv head, its entries in the block) → Σ w·v̂ float32 [G, Dv]."""


def attend(asked: Asked, dots: Dots, weighed: Weighed, value_dim: int) -> tuple[Tensor, Tensor]:
    """out float32 [G·h, Dv] and the absolute lse [G·h], head by head."""
    outs, lses = [], []
    for i, (begin, end) in enumerate(pairwise(asked.bounds)):
        q, span = asked.q[i * asked.group : (i + 1) * asked.group].float(), slice(begin, end)
        if begin == end:
            outs.append(q.new_zeros(len(q), value_dim))
            lses.append(q.new_full((len(q),), -torch.inf))
            continue
        logits = dots(q, asked.first + i, span) * asked.scale
        if asked.softcap is not None:
            logits = torch.tanh(logits / asked.softcap) * asked.softcap
        if asked.logw is not None:
            logits = logits + asked.logw[span]
        lses.append(logits.logsumexp(-1))
        # Entries that weigh nothing at all have an lse of −inf, and no output.
        weights = torch.exp(logits - lses[-1].nan_to_num(neginf=0.0)[:, None])
        outs.append(weighed(weights, asked.first + i, span))
    return torch.cat(outs), torch.cat(lses)


def spelled(keys: Tensor) -> Dots:
    """Products with keys [n, D] of a block that had to be spelled out."""
    return lambda q, head, span: q @ keys[span].t()


def products(q: Tensor, codes: Tensor, book: Tensor) -> Tensor:
    """q·x̂ of every entry.

    Shapes   q [G, D], codes int32 [n, m] → float32 [G, n]
    Formula  Σ_i table[i, code_i],  table[i, c] = q_i·c, with the whole of q where the codewords are as long
    Cost     m·K·D products once, then m additions per entry and query
    """
    m, _, dim = book.shape
    pieces = q[:, None].expand(-1, m, -1) if dim == q.shape[1] else q.unflatten(1, (m, dim))
    table = torch.einsum("gmd,mkd->mkg", pieces, book.float()).flatten(0, 1)
    return torch.nn.functional.embedding_bag(_rows(codes, book), table, mode="sum").t()


def sums(weights: Tensor, codes: Tensor, book: Tensor, dim: int) -> Tensor:
    """Σ_n w_n·x̂_n.

    Shapes   weights float32 [G, n], codes int32 [n, m] → float32 [G, dim]
    Formula  Σ_i Σ_c (Σ_{n: code_n,i = c} w_n)·c: mass is added up per codeword first
    Cost     m additions per entry and query, then m·K·D products
    """
    m, n_words, size = book.shape
    mass, rows = weights.new_zeros(len(weights), m * n_words), _rows(codes, book).flatten()
    for own, share in zip(mass, weights, strict=True):
        own.index_add_(0, rows, share[:, None].expand(-1, m).flatten())
    per_word = mass.unflatten(1, (m, n_words))
    if size == dim:
        return torch.einsum("gmk,mkd->gd", per_word, book.float())
    return torch.einsum("gmk,mkd->gmd", per_word, book.float()).flatten(1)


def _rows(codes: Tensor, book: Tensor) -> Tensor:
    """Where the codewords stand if those of all pieces lie one below another."""
    m, n_words, _ = book.shape
    return codes + n_words * torch.arange(m, dtype=codes.dtype, device=codes.device)
