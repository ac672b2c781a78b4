"""Decoding of many rows that share a beginning: held once, in copies read by our fastest kernel, and as stock
holds it.

python bench/shared.py [CASE …] [--again] [--list]

rows-*    64 rows that share 4k tokens, one large layer     prefix-*    the same for beginnings of 1k to 16k
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import cases
import decode
import models
import torch

from keyvalise.host.cache import KVCache

ROWS, N_PREFIX, ROUNDS = 64, 4096, 7


def rows(dtype_name: str, n: int = N_PREFIX, has_stock: bool = True) -> cases.Figure:
    """One more token of every row, by three ways of holding what they share."""
    dtype = decode.DTYPES[dtype_name]
    shape = (1, models.LARGE.kv_heads, n, models.LARGE.head_dim)
    keys, values = decode.normal(*shape, dtype=dtype), decode.normal(*shape, dtype=dtype, seed=1)
    model, stock = models.llama(models.LARGE, dtype), models.llama(models.LARGE, dtype)
    alone = models.fill(model, KVCache(model, "full"), keys, values)
    caches: dict[str, Any] = {"shared": (model, alone.rows(torch.zeros(ROWS, dtype=torch.long)))}
    held = models.nbytes(caches["shared"][1])
    wide = [x.expand(ROWS, -1, -1, -1) for x in (keys, values)]
    caches["copies"] = (model, models.fill(model, KVCache(model, "full"), *wide))
    if has_stock:
        caches["stock"] = (stock, models.fill(stock, models.stock(stock), *wide))
    one = models.nbytes(alone)
    sides = decode.turns(model, caches, ROUNDS, rows=ROWS)
    took = {name: side["median_ms"] for name, side in sides.items()}
    label = f"{ROWS} rows that share {n} tokens, {dtype_name}"
    faster = cases.Target(
        f"{label}: times faster than copies", took["copies"] / took["shared"], 3.0, at_least=True
    )
    targets = [faster, cases.Target(f"{label}: bytes of one", held / one, 1.05)]
    if has_stock:
        ratio = took["stock"] / took["shared"]
        targets.append(cases.Target(f"{label}: times faster than stock", ratio, 50.0, at_least=True))
    settings = {"rows": ROWS, "tokens": n, "dtype": dtype_name, **vars(models.LARGE)}
    return cases.Figure(settings, sides, targets)


CASES = {
    **{f"rows-{name}": partial(rows, name) for name in decode.DTYPES},
    **{f"prefix-{n}": partial(rows, "bf16", n, has_stock=False) for n in (1024, 2048, 8192, 16384)},
}

if __name__ == "__main__":
    sys.exit(cases.main("shared", CASES))
