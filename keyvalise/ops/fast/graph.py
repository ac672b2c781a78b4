"""The loops of `ops.graph`, compiled; queries and keys are dealt out to as many threads as torch may use."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops.fast import spread

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]

LEAST = 16
"""Queries or keys that are worth a thread."""


def search(
    keys: Singles, edges: Ids, entry: int, queries: Singles, *, k: int, beam: int
) -> tuple[Ids, Counts]:
    """(ids [r, k], compared [r]) of queries [r, D]; as `graph.search`."""
    ids, compared = np.full((len(queries), k), -1, np.int32), np.zeros(len(queries), np.int64)
    spread.run(_kernels().search, (keys, edges, entry, queries, beam), ids, compared, least=LEAST)
    return ids, compared


def link(keys: Singles, edges: Ids, entry: int, nodes: Ids, *, degree: int, beam: int) -> Ids:
    """Rows [b, degree] of nodes [b]; as `graph.link`."""
    rows = np.empty((len(nodes), degree), np.int32)
    spread.run(_kernels().link, (keys, edges, entry, nodes, beam), rows, least=LEAST)
    return rows


def prune(keys: Singles, nodes: Ids, starts: Counts, candidates: Ids, *, degree: int) -> Ids:
    """Rows [b, degree] of nodes [b]; as `graph.prune`."""
    rows = np.empty((len(nodes), degree), np.int32)
    spread.run(_kernels().prune, (keys, nodes, starts, candidates), rows, least=LEAST)
    return rows


def _kernels() -> Any:
    from keyvalise.ops.fast import graph_kernel

    return graph_kernel
