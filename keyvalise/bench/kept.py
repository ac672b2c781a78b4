"""Which tokens a cache has kept, in few numbers: shares along the text, counts per head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keyvalise.host.cache import KVCache

N_BINS = 64
MOST_NUMBERS = 20_000
"""Larger maps (layers × heads × bins) are kept with fewer bins."""


def summary(cache: KVCache) -> dict[str, Any]:
    """Of row 0: `entries` [layer][kv head] counts, `kept` [layer][kv head][bin] shares; or nothing."""
    positions = [rows[0] for rows in map(cache.kept_positions, cache.shared.layers) if rows]
    if not positions:
        return {}
    n_heads = sum(map(len, positions))
    n_bins = max(8, min(N_BINS, cache.seen, MOST_NUMBERS // n_heads))
    return {
        "entries": [[len(head) for head in layer] for layer in positions],
        "kept": [[density(head, cache.seen, n_bins) for head in layer] for layer in positions],
    }


def density(kept: Sequence[int], seen: int, n_bins: int) -> list[float]:
    """The share of tokens kept in each of `n_bins` equal stretches of `seen` tokens, two digits."""
    n_bins = min(n_bins, seen)
    found = [0] * n_bins
    for ordinal in kept:
        found[ordinal * n_bins // seen] += 1
    # The bin of ordinal o is floor(o · n_bins / seen), so bin i begins at ceil(i · seen / n_bins).
    edges = [-(-i * seen // n_bins) for i in range(n_bins + 1)]
    return [round(n / (b - a), 2) for n, a, b in zip(found, edges, edges[1:], strict=False)]
