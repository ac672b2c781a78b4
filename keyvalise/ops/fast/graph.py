"""The loops of `ops.graph`, compiled; queries and keys are dealt out to as many threads as torch may use."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]

LEAST = 16
"""Queries or keys that are worth a thread."""


@functools.cache
def available() -> bool:
    """Whether there is a compiler."""
    return importlib.util.find_spec("numba") is not None


def search(
    keys: Singles, edges: Ids, entry: int, queries: Singles, *, k: int, beam: int
) -> tuple[Ids, Counts]:
    """(ids [r, k], compared [r]) of queries [r, D]; as `graph.search`."""
    ids, compared = np.full((len(queries), k), -1, np.int32), np.zeros(len(queries), np.int64)
    _spread(_kernels().search, (keys, edges, entry, queries, beam), ids, compared)
    return ids, compared


def link(keys: Singles, edges: Ids, entry: int, nodes: Ids, *, degree: int, beam: int) -> Ids:
    """Rows [b, degree] of nodes [b]; as `graph.link`."""
    rows = np.empty((len(nodes), degree), np.int32)
    _spread(_kernels().link, (keys, edges, entry, nodes, beam), rows)
    return rows


def prune(keys: Singles, nodes: Ids, starts: Counts, candidates: Ids, *, degree: int) -> Ids:
    """Rows [b, degree] of nodes [b]; as `graph.prune`."""
    rows = np.empty((len(nodes), degree), np.int32)
    _spread(_kernels().prune, (keys, nodes, starts, candidates), rows)
    return rows


def _spread(kernel: Callable[..., None], given: tuple[Any, ...], *out: Any) -> None:
    """Run a kernel over the rows of `out`, which are independent of each other, in runs of neighbours."""
    n = len(out[0])
    n_threads = max(1, min(torch.get_num_threads(), n // LEAST))
    if n_threads == 1:
        kernel(*given, 0, n, *out)
        return
    bounds = [n * i // n_threads for i in range(n_threads + 1)]
    pool = _pool(os.getpid())
    runs = [pool.submit(kernel, *given, *bounds[i : i + 2], *out) for i in range(n_threads)]
    for run in runs:
        run.result()


@functools.cache
def _pool(process: int) -> futures.ThreadPoolExecutor:
    """Plain threads; a forked child gets its own."""
    return futures.ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="keyvalise")


def _kernels() -> Any:
    from keyvalise.ops.fast import graph_kernel

    return graph_kernel
