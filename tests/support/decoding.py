"""Decoding with float64 definitions: what any kernel must answer."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.support.compare import assert_close

Answer = tuple[Tensor, Tensor]
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def define(
    q: Tensor, k: Tensor, v: Tensor, sees: Tensor, *, scale: float, softcap: float | None, logw: Tensor
) -> Answer:
    """One (row, head) in float64: q [R, D], k [T, D], v [T, Dv], sees bool [R, T], logw [T]."""
    scores = q.double() @ k.double().T * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = torch.where(sees & ~torch.isneginf(logw), scores + logw.double(), -math.inf)
    lse = scores.logsumexp(-1) if k.shape[0] else torch.full(q.shape[:1], -math.inf).double()
    weights = torch.exp(scores - lse.nan_to_num(neginf=0.0)[:, None])
    values = torch.where((sees & ~torch.isneginf(logw)).any(0)[:, None], v.double(), 0.0)
    return weights @ values, lse


def expected(
    q: Tensor,
    runs: list[tuple[Tensor, Tensor, Tensor]],
    *,
    visible: Tensor | None = None,
    scale: float = 0.21,
    softcap: float | None = None,
) -> Answer:
    """Runs of (k, v, logw), row by row and head by head; visible [B, S]."""
    n_rows, n_query, n_queries, dim = q.shape
    n_heads = len(runs) // n_rows
    outs, lses = [], []
    for i, (k, v, logw) in enumerate(runs):
        row, head = divmod(i, n_heads)
        mine = q[row].view(n_heads, -1, n_queries, dim)[head]
        limits = torch.full((n_queries,), len(k)) if visible is None else visible[row]
        sees = torch.arange(len(k))[None] < limits.repeat(mine.shape[0])[:, None]
        out, lse = define(mine.reshape(-1, dim), k, v, sees, scale=scale, softcap=softcap, logw=logw)
        outs.append(out.view(-1, n_queries, v.shape[-1]))
        lses.append(lse.view(-1, n_queries))
    shape = (n_rows, n_query, n_queries)
    return torch.stack(outs).view(*shape, -1), torch.stack(lses).view(shape)


def agree(got: Answer, want: Answer) -> None:
    assert got[0].dtype == got[1].dtype == torch.float32
    assert_close(got[0], want[0], "attention_fp32", what="out")
    assert_close(got[1], want[1], "attention_fp32", what="lse")


def poisoned(n_rows: int, n_heads: int, lengths: list[int], dim: int, dtype: torch.dtype) -> Tensor:
    """A strided view [B, H, max length, dim] of a larger buffer that is NaN wherever no entry lies."""
    longest = max(lengths)
    buffer = torch.full((n_rows, longest + 9, n_heads, dim), math.nan, dtype=dtype)
    for row, n in enumerate(lengths):
        buffer[row, 4 : 4 + n] = torch.randn(n, n_heads, dim).to(dtype)
    return buffer[:, 4 : 4 + longest].transpose(1, 2)


def runs_of(
    k: Tensor, v: Tensor, lengths: list[int], logw: Tensor | None = None
) -> list[tuple[Tensor, Tensor, Tensor]]:
    weights = torch.zeros(k.shape[:3]) if logw is None else logw
    return [
        (k[row, head, :n], v[row, head, :n], weights[row, head, :n])
        for row, n in enumerate(lengths)
        for head in range(k.shape[1])
    ]
