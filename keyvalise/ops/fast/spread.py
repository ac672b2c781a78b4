"""A compiled loop over rows that know nothing of each other, on as many threads as torch may use."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

import torch


def run(kernel: Callable[..., None], given: tuple[Any, ...], *out: Any, least: int) -> None:
    """kernel(*given, begin, end, *out) over the rows of out, in runs of neighbours.

    least   rows that are worth a thread
    """
    n = len(out[0])
    n_threads = max(1, min(torch.get_num_threads(), n // max(1, least)))
    if n_threads == 1:
        kernel(*given, 0, n, *out)
        return
    bounds = [n * i // n_threads for i in range(n_threads + 1)]
    pool = _pool(os.getpid())
    runs = [pool.submit(kernel, *given, *bounds[i : i + 2], *out) for i in range(1, n_threads)]
    kernel(*given, *bounds[:2], *out)
    for one in runs:
        one.result()


@functools.cache
def _pool(process: int) -> futures.ThreadPoolExecutor:
    """Plain threads; a forked child gets its own."""
    return futures.ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="keyvalise")
