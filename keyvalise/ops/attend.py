"""Attention over one run of entries, with the absolute log-sum-exp that lets runs be merged.

Axes   q [B, Hq, S, D], k [B, H, T, D], v [B, H, T, Dv]; Hq = G·H, query head h reads kv head h // G.
Every function returns (out [B, Hq, S, Dv] float32, lse [B, Hq, S] float32); the empty run is (0, −inf).
"""

from __future__ import annotations

import array
import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from keyvalise.ops.fast import choose, decode
from keyvalise.ops.fast.gpu import decode as device

BLOCK_BYTES = 64 * 2**20
"""Most transient bytes of scores that the plain path holds at once."""

WIDENED = 64
"""Queries per kv head from which on bfloat16 entries are widened once, as `bench/shared.py` has many rows ask
one beginning; for fewer, widening costs more than torch's own attention in 16 bits.
"""

_flash_on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
"""The operator behind torch's own CPU attention; it also returns the log-sum-exp that the public face
drops.
"""


def dense(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, softcap: float | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Every query sees every entry; `bias` [B|1, H|1, S|1, T] float32 is added to the logits (log-weights,
    masks).

    Formula   lse = log Σ_i exp(scale·q·k_i + bias_i);  out = Σ_i exp(scale·q·k_i + bias_i − lse)·v_i
    Cost      S·T·Hq·D time; at most BLOCK_BYTES of scores at once
    """
    if k.shape[2] == 0:
        return empty(q, v.shape[-1])
    if bias is None or bias.shape[2] == 1:
        logw = None if bias is None else bias[:, :, 0]
        if q.device.type == "cuda" and device.available(k, v):
            return device.dense(q, k, v, logw=logw, scale=scale, softcap=softcap)
        if _is_fast("dense", q, k, v, k.shape[1]):
            return decode.dense(q, k, v, logw=logw, scale=scale, softcap=softcap)
    if softcap is not None or q.device.type != "cpu" or k.shape[-1] != v.shape[-1]:
        return _blockwise(q, k, v, scale=scale, softcap=softcap, bias=bias)
    is_wider = q.shape[1] * q.shape[2] // k.shape[1] >= WIDENED and not _has_tiles()
    if k.dtype is torch.float16 or k.dtype != q.dtype or (k.dtype is torch.bfloat16 and is_wider):
        return _upcast(q, k, v, scale=scale, bias=bias)
    return _flash(q, k, v, scale=scale, bias=bias)


def alone(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """`dense` where nothing will be merged: only out [B, Hq, S, Dv], in the query's dtype or float32.

    Needs   k and v in the query's dtype; no soft cap
    """
    n_rows, n_query, n_queries, dim = q.shape
    if _is_fast("dense", q, k, v, k.shape[1], rival="sdpa"):
        return decode.dense(q, k, v, scale=scale)[0]
    folded = q.view(n_rows, k.shape[1], -1, dim) if n_queries == 1 else q.reshape(n_rows, k.shape[1], -1, dim)
    out = torch.nn.functional.scaled_dot_product_attention(folded, k, v, scale=scale)
    return out.reshape(n_rows, n_query, n_queries, v.shape[-1])


def _is_fast(
    kind: choose.Kind, q: Tensor, k: Tensor, v: Tensor, n_heads: int, *, rival: choose.Rival = "attend"
) -> bool:
    """Whether the compiled kernel can serve these queries, and is faster than what it would replace."""
    if q.device.type != "cpu":
        return False
    return decode.serves(kind, k, v, per_head=q.shape[1] * q.shape[2] // n_heads, rival=rival)


def causal(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, softcap: float | None = None
) -> tuple[Tensor, Tensor]:
    """Query s sees the entries 0 … T − S + s: the last S entries are the queries' own.

    Reduces to   `dense` for S = 1
    """
    n_queries, n_entries = q.shape[2], k.shape[2]
    if n_queries == 1:
        return dense(q, k, v, scale=scale, softcap=softcap)
    past = n_entries - n_queries
    own_k, own_v = k[:, :, past:], v[:, :, past:]
    if softcap is None and q.device.type == "cpu" and k.shape[-1] == v.shape[-1]:
        out, lse = _flash_on_cpu(q, own_k.to(q.dtype), own_v.to(q.dtype), 0.0, True, scale=scale)
        own = out.float(), lse.float()
    else:
        own = _blockwise(q, own_k, own_v, scale=scale, softcap=softcap, is_causal=True)
    if past == 0:
        return own
    return merge(dense(q, k[:, :, :past], v[:, :, :past], scale=scale, softcap=softcap), own)


def ragged(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bounds: Sequence[int],
    index: Tensor | None = None,
    scale: float,
    softcap: float | None = None,
    logw: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Flat storage: kv head h of row b owns the entries bounds[b·H + h] … bounds[b·H + h + 1] − 1.

    Shapes   k [N, D], v [N, Dv], logw float32 [N] or None; bounds has B·H + 1 numbers; index int64 [M]: where
             each entry is stored
    """
    n_rows, n_query, n_queries, _ = q.shape
    n_heads = (len(bounds) - 1) // n_rows
    if k.shape[0] == 0 or bounds[-1] == 0:
        return empty(q, v.shape[-1])
    if index is not None:
        told: dict[str, Any] = {"offsets": offsets(bounds), "scale": scale, "softcap": softcap}
        if _is_fast("picked", q, k, v, n_heads):
            return decode.ragged(q, k, v, index=index, logw=logw, **told)
        k, v, logw = k[index], v[index], None if logw is None else logw[index]
    length = bounds[1] - bounds[0]
    if all(bounds[i] == i * length for i in range(len(bounds))):
        shape = (n_rows, n_heads, length, -1)
        bias = None if logw is None else logw.view(n_rows, n_heads, 1, length)
        return dense(q, k.view(shape), v.view(shape), scale=scale, softcap=softcap, bias=bias)
    if q.device.type == "cuda" and device.available(k, v):
        return device.ragged(q, k, v, offsets=offsets(bounds), logw=logw, scale=scale, softcap=softcap)
    if _is_fast("ragged", q, k, v, n_heads):
        return decode.ragged(q, k, v, offsets=offsets(bounds), logw=logw, scale=scale, softcap=softcap)
    group = n_query // n_heads
    out, lse = empty(q, v.shape[-1])
    for i in range(len(bounds) - 1):
        begin, end = bounds[i], bounds[i + 1]
        row, first = i // n_heads, (i % n_heads) * group
        heads = slice(first, first + group)
        bias = None if logw is None else logw[None, None, None, begin:end]
        part = dense(
            q[row : row + 1, heads],
            k[None, None, begin:end],
            v[None, None, begin:end],
            scale=scale,
            softcap=softcap,
            bias=bias,
        )
        out[row, heads], lse[row, heads] = part[0][0], part[1][0]
    return out, lse


@functools.cache
def _has_tiles() -> bool:
    """Whether the processor multiplies matrices of bfloat16 by itself."""
    return bool(torch.cpu._is_amx_tile_supported())


def offsets(bounds: Sequence[int]) -> Tensor:
    """The edges as compiled code wants them: int32, at no cost for long lists."""
    return torch.frombuffer(array.array("i", bounds), dtype=torch.int32)


def merge(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The attention over two runs together; exact, associative, commutative, with (0, −inf) as identity."""
    (out_a, lse_a), (out_b, lse_b) = a, b
    lse = torch.logaddexp(lse_a, lse_b)
    # Two empty answers give −inf − (−inf); their weight is 0 by definition.
    weight_a = torch.exp(lse_a - lse).nan_to_num_(0.0)[..., None]
    weight_b = torch.exp(lse_b - lse).nan_to_num_(0.0)[..., None]
    return weight_a * out_a + weight_b * out_b, lse


def merge_all(answers: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The attention over several runs together, as `merge` has it."""
    if len(answers) == 1:
        return answers[0]
    lses = torch.stack([lse for _, lse in answers])
    lse = lses.logsumexp(0)
    weights = torch.exp(lses - lse).nan_to_num_(0.0)[..., None]
    out = weights[0] * answers[0][0]
    for weight, (other, _) in zip(weights[1:], answers[1:], strict=True):
        out.addcmul_(weight, other)
    return out, lse


def output(answers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """What `merge_all` says of the output, in fewer steps; the last answer must not be empty."""
    *others, (out, lse) = answers
    for i, (other, other_lse) in enumerate(others, 1):
        out = torch.lerp(out, other, torch.sigmoid(other_lse - lse)[..., None])
        if i < len(others):
            lse = torch.logaddexp(lse, other_lse)
    return out


def empty(q: Tensor, value_dim: int) -> tuple[Tensor, Tensor]:
    """What a run of no entries answers."""
    return q.new_zeros((*q.shape[:3], value_dim), dtype=torch.float32), q.new_full(
        q.shape[:3], -math.inf, dtype=torch.float32
    )


def _flash(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    n_rows, n_query, n_queries, dim = q.shape
    n_heads = k.shape[1]
    # Folding the group into the query axis reads every key once for all its query heads.
    folded = q.reshape(n_rows, n_heads, -1, dim)
    mask = None if bias is None else _fold_bias(bias, q, n_heads).to(q.dtype)
    out, lse = _flash_on_cpu(folded, k, v, 0.0, False, attn_mask=mask, scale=scale)
    out, lse = out.float(), lse.float()
    if mask is not None:
        # The operator answers 0 for a query that sees nothing; an empty softmax has lse −inf.
        lse = lse.masked_fill(torch.isneginf(mask).all(-1).expand(lse.shape), -math.inf)
    return out.reshape(*q.shape[:3], v.shape[-1]), lse.reshape(q.shape[:3])


def _fold_bias(bias: Tensor, q: Tensor, n_heads: int) -> Tensor:
    """[B|1, H|1, S|1, T] → [B|1, H|1, G·S | 1, T] to match queries folded by group."""
    if bias.shape[2] == 1:
        return bias
    group = q.shape[1] // n_heads
    return bias.repeat(1, 1, group, 1)


def _upcast(q: Tensor, k: Tensor, v: Tensor, *, scale: float, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Attend in float32 over blocks of entries that are widened one at a time."""
    per_entry = 4 * k.shape[0] * k.shape[1] * (k.shape[-1] + v.shape[-1])
    step = max(256, (BLOCK_BYTES // 8) // per_entry)
    total = empty(q, v.shape[-1])
    wide = q.float()
    for begin in range(0, k.shape[2], step):
        span = slice(begin, begin + step)
        part = None if bias is None else bias[..., span]
        answer = _flash(wide, k[:, :, span].float(), v[:, :, span].float(), scale=scale, bias=part)
        total = answer if begin == 0 else merge(total, answer)
    return total


def _blockwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float,
    softcap: float | None,
    bias: Tensor | None = None,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor]:
    """The definition, over blocks of queries."""
    n_rows, n_query, n_queries, dim = q.shape
    n_heads, n_entries = k.shape[1], k.shape[2]
    step = max(1, BLOCK_BYTES // max(1, 4 * n_rows * n_query * n_entries))
    outs, lses = [], []
    keys, values = k.float(), v.float()
    for begin in range(0, n_queries, step):
        block = q[:, :, begin : begin + step].float().reshape(n_rows, n_heads, -1, dim)
        scores = torch.matmul(block, keys.transpose(-1, -2)) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.view(n_rows, n_query, -1, n_entries)
        if bias is not None:
            rows = bias if bias.shape[2] == 1 else bias[:, :, begin : begin + step]
            scores = scores + (rows if rows.shape[1] == 1 else rows.repeat_interleave(n_query // n_heads, 1))
        if is_causal:
            limit = torch.arange(begin, begin + scores.shape[2], device=q.device)[:, None]
            scores = scores.masked_fill(torch.arange(n_entries, device=q.device)[None] > limit, -math.inf)
        lse = scores.logsumexp(-1)
        weights = torch.exp(scores - lse.nan_to_num(neginf=0.0)[..., None])
        folded = weights.view(n_rows, n_heads, -1, n_entries)
        outs.append(torch.matmul(folded, values).view(n_rows, n_query, -1, v.shape[-1]))
        lses.append(lse)
    return torch.cat(outs, 2), torch.cat(lses, 2)
