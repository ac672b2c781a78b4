"""Many processes on one place: killed in the middle of writing, and working side by side."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from keyvalise.store.tiers import directory, upkeep, valkey
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.tier import Tier
from tests.unit.store.tiers import crowd, goods

LOAD = torch.randn(500, 500)
"""The parent is loaded: its children inherit tensors, threads and an open shelf."""


@pytest.mark.parametrize("n", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_whatever_killed_writers_leave_is_right(shared: Tier, n: int) -> None:
    assert (LOAD @ LOAD).isfinite().all()
    goods.put(Shelf(shared, 10**9, goods.CHUNK), goods.context(1))
    for i in range(n):
        assert crowd.killed(Random(i), crowd.write, shared, Random(i)) == -signal.SIGKILL
    seen = crowd.visible(shared)
    assert len(seen) > n, "every writer was killed after its first context"
    shelf = Shelf(shared, 10**9, goods.CHUNK)
    before = upkeep.stats(shelf).n_objects
    upkeep.gc(shelf, -60.0, is_thorough=True)
    assert upkeep.stats(shelf).n_objects == before and upkeep.gc(shelf, -60.0) == upkeep.Collected(
        0, 0, 0, 0, 0, 0
    )
    assert len(crowd.visible(shared)) == before and goods.has(shelf, goods.context(1))


STEPS: list[tuple[Any, str]] = [
    (directory.os, "open"),
    (directory.os, "fsync"),
    (directory.os, "replace"),
    (directory.secrets, "token_hex"),
    (Path, "unlink"),
    (Path, "mkdir"),
]


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
def test_killed_at_every_step(tmp_path: Path, owner: Any, name: str, is_after: bool) -> None:
    """Before and after every call that changes the folder, the first time and the second."""
    for nth in (1, 2):
        tier = DirectoryTier(tmp_path / str(nth))
        goods.put(Shelf(tier, 10**9, goods.CHUNK), goods.context(1))
        child = crowd.forked(_dying, tier, (owner, name), nth, is_after)
        assert crowd.ended(child) in (-signal.SIGKILL, 0)
        seen = crowd.visible(tier)
        assert 1 <= len(seen) <= 2 and goods.has(Shelf(tier, 10**9, goods.CHUNK), goods.context(1))
        shelf = Shelf(tier, 10**9, goods.CHUNK)
        upkeep.gc(shelf, -60.0)
        goods.put(shelf, goods.context(2))
        assert len(crowd.visible(tier)) == 2 and list((tier.root / directory.DRAFTS).iterdir()) == []


def _dying(tier: Tier, call: tuple[Any, str], nth: int, is_after: bool) -> None:
    owner, name = call
    plain: Callable[..., Any] = getattr(owner, name)
    calls = []

    def deadly(*words: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == nth and not is_after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = plain(*words, **named)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, deadly)
    goods.put(Shelf(tier, 10**9, goods.CHUNK), goods.context(2))


def test_a_server_sees_nothing_of_a_writer_that_was_killed(address: str) -> None:
    """Between any two parts, and before the manifest."""
    tier = valkey.reached(address)
    tier._client.flushall()
    for nth in range(1, 6):
        child = crowd.forked(_dying_there, address, nth)
        assert crowd.ended(child) == -signal.SIGKILL
        assert tier.entries() == [] and tier.get("v1/a") is None
    keys = tier._client.keys("*")
    assert keys and all(tier._client.ttl(key) > 0 for key in keys)


def _dying_there(address: str, nth: int) -> None:
    tier = valkey.reached(address)
    tier._part_bytes, calls, plain = 1000, [], tier._client.execute_command

    def deadly(*words: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*words, **named)

    tier._client.execute_command = deadly
    tier.put("v1/a", b"x" * 4000)


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_eight_processes_lose_and_mix_nothing(shared: Tier, tmp_path: Path, seconds: float) -> None:
    reports = crowd.worked(shared, 8, seconds, 10**9, tmp_path)
    put = {(tenant, number) for one in reports for tenant, number in one["put"]}
    shelf = Shelf(shared, 10**9, goods.CHUNK)
    lost = [one for one in put if not goods.has(shelf, crowd.numbered(one[1]), one[0])]
    assert not lost and len(crowd.visible(shared)) == len(put) > 30
    assert (
        sum(one["hits"] for one in reports) > 20
        and sum(one["evicted"] + one["damaged"] for one in reports) == 0
    )


@pytest.mark.parametrize("seconds", [5.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_eight_processes_under_a_tight_bound_mix_nothing(
    shared: Tier, tmp_path: Path, seconds: float
) -> None:
    bound, largest = 400_000, 500 * (crowd.N_CONTEXTS + 9) + 5000
    reports = crowd.worked(shared, 8, seconds, bound, tmp_path)
    assert max(one["bytes"] for one in reports) <= bound + 8 * largest
    assert sum(one["evicted"] for one in reports) > 10 and sum(one["hits"] for one in reports) > 10
    shelf = Shelf(shared, bound, goods.CHUNK)
    goods.put(shelf, goods.context(10**6))
    assert upkeep.stats(shelf).n_bytes <= bound and crowd.visible(shared)
