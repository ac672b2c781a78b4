"""What queries pay to entries, a tile of both at a time: no logits of all queries and entries exist at once.

Flows in    queries [lists of queries, R, D], contiguous, row r the query r % S of its row of the batch; the
            ordinals of queries, −1 for none; keys; ordinals of entries, NEVER where none lives; log-weights
Flows out   `norms`: the log-sum-exp of chunks;  `columns`: sums of probabilities over queries
Knows not   means, groups, what padding is: a query without an ordinal sees nothing
"""

from __future__ import annotations

from keyvalise.ops.fast import arrivals as when
from keyvalise.ops.fast.gpu import softmax, tile
from keyvalise.ops.fast.gpu.language import constexpr, jit, tl

NEVER = tl.constexpr(when.NEVER)
"""The ordinal that no query reaches."""


@jit
def arrivals(ordinals, row, head, entry, live):  # type: ignore[no-untyped-def]
    """int32 [N]: when entries came; NEVER where none lives."""
    at = ordinals.at + row * ordinals.row + head * ordinals.head + entry
    return tl.load(at, mask=live, other=NEVER)


@jit(do_not_specialize=("n_entries", "chunk", "n_chunks"))
def norms(  # type: ignore[no-untyped-def]
    out,
    q,
    keys,
    logw,
    ordinals,
    newest,
    n_heads,
    n_rows,
    n_queries,
    n_entries,
    chunk,
    n_chunks,
    scale,
    softcap,
    K: constexpr,
    HOW: constexpr,
):
    """out [lists, n_chunks, R]: the log-sum-exp of every query over one chunk of the entries that it sees."""
    item = tl.program_id(0)
    which = item // n_chunks
    begin = item % n_chunks * chunk
    row, head = (which // n_heads).to(tl.int64), (which % n_heads).to(tl.int64)
    r = tl.program_id(1) * HOW.rows + tl.arange(0, HOW.rows)
    own = tl.load(newest + row * n_queries + r % n_queries, mask=r < n_rows, other=-1)
    x = tile.ask(q, which.to(tl.int64) * n_rows + r, own >= 0, K)
    top = tl.full([HOW.rows], float("-inf"), tl.float32)
    total = tl.zeros([HOW.rows], tl.float32)
    for start in range(begin, tl.minimum(begin + chunk, n_entries), HOW.block):
        entry = (start + tl.arange(0, HOW.block)).to(tl.int64)
        came = arrivals(ordinals, row, head, entry, entry < n_entries)
        w, live = tile.log_weights(logw, row, head, entry, came != NEVER)
        key = tile.read(keys, row, head, entry, live, K)
        z = tile.logits(x, key, w, scale, softcap, HOW.product)
        z = tl.where(live[None, :] & (came[None, :] <= own[:, None]), z, float("-inf"))
        top, total, _, _ = softmax.weigh(top, total, z, 1.0, 0.0)
    tl.store(out + item.to(tl.int64) * n_rows + r, softmax.norm(top, total, 0.0), mask=r < n_rows)


@jit(do_not_specialize=("n_entries",))
def columns(  # type: ignore[no-untyped-def]
    out,
    q,
    lse,
    keys,
    logw,
    ordinals,
    newest,
    n_heads,
    n_rows,
    n_queries,
    n_entries,
    scale,
    softcap,
    share,
    PER: constexpr,
    K: constexpr,
    HOW: constexpr,
):
    """out [lists, PER, T]: share·Σ_r exp(logit − lse_r), for each of a kv head's PER lists of queries."""
    which = tl.program_id(1)
    row, head = (which // n_heads).to(tl.int64), (which % n_heads).to(tl.int64)
    entry = (tl.program_id(0) * HOW.block + tl.arange(0, HOW.block)).to(tl.int64)
    came = arrivals(ordinals, row, head, entry, entry < n_entries)
    first = tl.min(came)
    w, live = tile.log_weights(logw, row, head, entry, came != NEVER)
    key = tile.read(keys, row, head, entry, live, K)
    for i in range(PER):
        row_at = (which * PER + i).to(tl.int64) * n_rows
        total = tl.zeros([HOW.block], tl.float32)
        for start in range(0, n_rows, HOW.rows):
            r = start + tl.arange(0, HOW.rows)
            own = tl.load(newest + row * n_queries + r % n_queries, mask=r < n_rows, other=-1)
            if tl.max(own) >= first:
                norm = tl.load(lse + row_at + r, mask=own >= 0, other=float("inf"))
                # A query that reads nothing has lse −inf; +inf makes its probabilities zero.
                norm = tl.where(norm == float("-inf"), float("inf"), norm)
                x = tile.ask(q, row_at + r, own >= 0, K)
                z = tile.logits(x, key, w, scale, softcap, HOW.product)
                sees = live[None, :] & (came[None, :] <= own[:, None])
                total += tl.sum(tl.exp(tl.where(sees, z - norm[:, None], float("-inf"))), 0)
        at = (which * PER + i).to(tl.int64) * n_entries + entry
        tl.store(out + at, total * share, mask=entry < n_entries)
