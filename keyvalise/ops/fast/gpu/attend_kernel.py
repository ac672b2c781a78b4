"""Attention of the queries of a kv head over chunks of its entries, and the answers of its chunks together.

Flows in    queries, and how far they see; where entries lie; log-weights
Flows out   `split`: out [items, R, Dv] of chunks, and lse [items, R] where every list is one chunk; else the
            largest logit and the sum of exponentials beside it: a rounded lse would misweigh chunks
            `merge`: out [lists, R, Dv] and lse [lists, R]
Knows not   which query head and token a row of queries belongs to
"""

from __future__ import annotations

from keyvalise.ops.fast.gpu import runs, softmax, tile
from keyvalise.ops.fast.gpu.language import constexpr, jit, tl
from keyvalise.ops.fast.gpu.told import Cut

_CHANGING = ("n_entries", "chunk", "n_chunks")
"""What differs from call to call; other numbers have a kernel of their own when they are 1 or 16·n."""


@jit(do_not_specialize=_CHANGING)
def split(  # type: ignore[no-untyped-def]
    out,
    lse,
    sums,
    asked,
    keys,
    values,
    logw,
    lists,
    n_entries,
    chunk,
    n_chunks,
    scale,
    softcap,
    K: constexpr,
    V: constexpr,
    HOW: constexpr,
):
    """One chunk of one list, for one tile of its queries."""
    item, cut = tl.program_id(0), Cut(n_entries, chunk, n_chunks)
    which = runs.owner(lists, item, cut, HOW.lists)
    first, n = runs.extent(lists, which, cut)
    begin = (item - runs.items(lists, which, cut)) * cut.chunk
    row, head = (which // lists.n_heads).to(tl.int64), (which % lists.n_heads).to(tl.int64)
    r = tl.program_id(1) * HOW.rows + tl.arange(0, HOW.rows)
    limit, most, least = runs.sight(asked, row, head, r, n)
    end = tl.where(begin < 0, begin, tl.minimum(begin + cut.chunk, most))
    q = tile.ask(asked.q, which.to(tl.int64) * asked.n_rows + r, r < asked.n_rows, K)
    top = tl.full([HOW.rows], float("-inf"), tl.float32)
    total = tl.zeros([HOW.rows], tl.float32)
    acc = tl.zeros([HOW.rows, V.width], tl.float32)
    for start in range(begin, end, HOW.block):
        t = start + tl.arange(0, HOW.block)
        entry = (first + t).to(tl.int64)
        w, live = tile.log_weights(logw, row, head, entry, t < end)
        x = tile.logits(q, tile.read(keys, row, head, entry, live, K), w, scale, softcap, HOW.product)
        sees = live[None, :] & (t[None, :] < limit[:, None])
        top, total, p, fade = softmax.weigh(top, total, tl.where(sees, x, float("-inf")), 1.0, HOW.lift)
        v = tile.read(values, row, head, entry, live, V)
        acc = acc * fade[:, None]
        if asked.visible is None:
            acc += tile.weighted(p, v, HOW.product)
        else:
            acc = softmax.take(acc, p, v, sees, least >= tl.minimum(start + HOW.block, end), HOW.product)
    at = item.to(tl.int64) * asked.n_rows + r
    tile.answer(out, at, r < asked.n_rows, softmax.share(acc, total), V)
    if sums is None:
        tl.store(lse + at, softmax.norm(top, total, HOW.lift), mask=r < asked.n_rows)
    else:
        tl.store(lse + at, top, mask=r < asked.n_rows)
        tl.store(sums + at, total, mask=r < asked.n_rows)


@jit(do_not_specialize=_CHANGING)
def merge(  # type: ignore[no-untyped-def]
    out,
    lse,
    parts,
    tops,
    sums,
    lists,
    n_rows,
    n_entries,
    chunk,
    n_chunks,
    DIM: constexpr,
    WIDTH: constexpr,
    ITEMS: constexpr,
    LIFT: constexpr,
):
    """The answers of all chunks of a list together, for one of its queries."""
    which, r = tl.program_id(0) // n_rows, tl.program_id(0) % n_rows
    cut = Cut(n_entries, chunk, n_chunks)
    _, n = runs.extent(lists, which, cut)
    begin = runs.items(lists, which, cut)
    end = begin + (n + cut.chunk - 1) // cut.chunk
    channel = tl.arange(0, WIDTH)
    top = tl.full([1], float("-inf"), tl.float32)
    total = tl.zeros([1], tl.float32)
    acc = tl.zeros([1, WIDTH], tl.float32)
    for start in range(begin, end, ITEMS):
        item = start + tl.arange(0, ITEMS)
        at = item.to(tl.int64) * n_rows + r
        x = tl.load(tops + at, mask=item < end, other=float("-inf"))
        held = tl.load(sums + at, mask=item < end, other=0.0)
        top, total, p, fade = softmax.weigh(top, total, x[None, :], held[None, :], 0.0)
        mask = (item < end)[:, None] & (channel < DIM)[None, :]
        part = tl.load(parts + (at * DIM)[:, None] + channel[None, :], mask=mask, other=0.0)
        acc = acc * fade[:, None] + tl.sum(tl.trans(p) * part, 0)[None, :]
    at = which.to(tl.int64) * n_rows + r
    tl.store(out + at * DIM + channel[None, :], softmax.share(acc, total), mask=(channel < DIM)[None, :])
    tl.store(lse + at + tl.arange(0, 1), softmax.norm(top, total, LIFT))
