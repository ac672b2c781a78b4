"""Decoding speed of a cache, and the most memory that a process held for a while."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import psutil
import torch

from keyvalise.bench import statistics
from keyvalise.bench.prefill import now
from keyvalise.host.cache import KVCache

N_STEPS = 8
PAUSE_S = 0.01


def decode_tokens_per_s(model: Any, cache: KVCache, token: int, n_steps: int = N_STEPS) -> float:
    """Tokens a second of one row, fed one at a time to a fork; the median step, after one that warms up."""
    fork, times = cache.fork(), []
    ids = torch.tensor([[token]], device=model.device)
    with torch.no_grad():
        for _ in range(n_steps + 1):
            begin = now(model.device)
            model(ids, past_key_values=fork, use_cache=True)
            times.append(now(model.device) - begin)
    return 1 / max(statistics.median(times[1:]), 1e-9)


class PeakRss:
    """The largest resident size of this process inside a `with`, looked at every `PAUSE_S` seconds.

    Units   bytes; everything the process holds counts, the model and other caches included
    """

    def __init__(self) -> None:
        self.n_bytes = 0
        self._process = psutil.Process()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _look(self) -> None:
        self.n_bytes = max(self.n_bytes, int(self._process.memory_info().rss))

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE_S):
            self._look()

    def __enter__(self) -> PeakRss:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
