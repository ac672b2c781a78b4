"""Long coded segments, made of a short one's codes many times over, and what reading them allocates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.store.coded import Coded
from keyvalise.store.places import Places
from keyvalise.types.code import Codes
from keyvalise.types.data import Env
from tests.support.segments import Runs

SHORT = 512
"""Entries of a head that are really coded: a multiple of every group."""


def segment(code: Any, env: Env, n: int) -> Coded:
    """n entries per head of one row, a multiple of SHORT."""
    n_heads = env.geometry.n_kv_heads
    run = Runs.random(env.geometry, [[SHORT] * n_heads]).flat()
    places = torch.arange(SHORT, dtype=torch.int32).repeat(n_heads)
    keys, values = (x.to(env.geometry.dtype) for x in (run.keys, run.values))
    short = Coded.of(code, env, replace(run, keys=keys, values=values, ordinals=places))

    def again(tensor: Tensor) -> Tensor:
        per_head = tensor.unflatten(0, (n_heads, -1))
        return per_head.repeat(1, n // SHORT, *[1] * (per_head.ndim - 2)).flatten(0, 1)

    entry = {name: again(tensor) for name, tensor in short.codes.entry.items()}
    group = {name: again(tensor) for name, tensor in short.codes.group.items()}
    places = Places.of(torch.arange(n, dtype=torch.int32).repeat(n_heads), [n] * n_heads, (1, n_heads))
    return replace(short, codes=Codes(entry, group, short.codes.home), places=places)


def peak_bytes(run: Callable[[], Any]) -> int:
    """The most bytes that torch's allocator held at once while something ran, above what it held before."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    assert profile.profiler is not None
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
