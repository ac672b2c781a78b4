"""Runs one C function on several threads, on torch's own pool where it can be reached.

Flows in    the address of a worker `void work(void *)` and of what it reads; how many threads
Knows not   what the worker does. A second pool beside torch's would spin against it on the same cores, so GNU
            OpenMP, which torch for Linux brings along, is asked to start the workers; elsewhere threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
from concurrent import futures
from typing import Any, NamedTuple


class Worker(NamedTuple):
    """A compiled C function as a callable that lets go of the interpreter's lock, and what keeps it alive."""

    call: Any
    compiled: Any

    @staticmethod
    def of(compiled: Any) -> Worker:
        return Worker(ctypes.CFUNCTYPE(None, ctypes.c_void_p)(compiled.address), compiled)


@functools.cache
def _openmp() -> Any:
    """`GOMP_parallel` of the process, or None."""
    try:
        start = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError, TypeError):
        return None
    start.argtypes, start.restype = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint), None
    return start


@functools.cache
def _pool(process: int) -> futures.ThreadPoolExecutor:
    """Plain threads; a forked child gets its own."""
    return futures.ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="keyvalise")


def deal(worker: Worker, record: bytes, n_threads: int, n_counters: int = 1) -> None:
    """As `run`, with a record to read and counters of items behind it, int64, that begin at zero."""
    room = ctypes.create_string_buffer(record + bytes(8 * n_counters))
    run(worker, ctypes.addressof(room), n_threads)


def run(worker: Worker, argument: int, n_threads: int) -> None:
    """Call the worker with `argument` on n_threads threads, this one included, and wait for all."""
    if n_threads == 1:
        worker.call(argument)
    elif (start := _openmp()) is not None:
        start(worker.call, argument, n_threads, 0)
    else:
        pool = _pool(os.getpid())
        others = [pool.submit(worker.call, argument) for _ in range(n_threads - 1)]
        worker.call(argument)
        for other in others:
            other.result()
