"""The loop of `product`: terms in order, neighbouring columns side by side; nothing is fused."""

from __future__ import annotations

from keyvalise.ops.fast.compiled import kernel

_TILE = 256
"""Columns whose sums stay in the first-level cache."""


@kernel
def add_(turn, y, out):  # type: ignore[no-untyped-def]
    """out += turn · y."""
    n = out.shape[1]
    for first in range(0, n, _TILE):
        end = min(first + _TILE, n)
        for c in range(len(turn)):
            row = out[c, first:end]
            for r in range(len(y)):
                w, terms = turn[c, r], y[r, first:end]
                for i in range(end - first):
                    row[i] += w * terms[i]
