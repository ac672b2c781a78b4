"""Processes that are forked from this one, to be killed or to work side by side."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from random import Random
from typing import Any

from keyvalise.store.tiers import tier as tiers
from keyvalise.store.tiers import upkeep
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.tier import Tier
from tests.unit.store.tiers import goods

N_CONTEXTS = 40
LEAST = 50
"""What every worker does however slow the machine is."""


def forked(work: Callable[..., None], *words: Any) -> int:
    """The number of a child that does this and nothing else."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work(*words)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """How a child ended: its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(random: Random, work: Callable[..., None], *words: Any) -> int:
    """Let a child begin, wait until it says that something is done, and kill it at a random moment.

    work    takes the words and a file to say so in;  returns how the child ended
    """
    heard, said = os.pipe()
    begun = time.monotonic()
    child = forked(work, *words, said)
    os.close(said)
    os.read(heard, 1)
    # As long as the machine took for the first thing: some die in their next one, some later.
    time.sleep(random.random() * max(0.05, time.monotonic() - begun))
    os.kill(child, signal.SIGKILL)
    os.close(heard)
    return ended(child)


def write(tier: Tier, random: Random, said: int) -> None:
    """Put contexts of all sizes until somebody ends it; says when the first is done."""
    shelf, n_bytes = Shelf(tier, 10**9, goods.CHUNK), 300
    while True:
        tenant, number = random.choice(goods.TENANTS), random.randrange(10**9)
        goods.put(shelf, goods.context(number), tenant, n_bytes)
        n_bytes = random.choice([100, 30_000, 300_000])
        if shelf.counts.puts == 1:
            os.write(said, b"x")


def visible(tier: Tier) -> list[tuple[str, list[int]]]:
    """(tenant, tokens) of every object that anybody can see, each read and found right, and found again."""
    shelf = Shelf(tier, 10**9, goods.CHUNK)
    seen = []
    for entry in tier.entries("v1/"):
        data = tier.get(entry.name)
        assert data is not None and len(data) == entry.n_bytes, f"{entry.name} is listed and not whole"
        if "/object/" in entry.name:
            seen.append(goods.told(data))
            assert entry.name.startswith(f"v1/{goods.key(seen[-1][0]).tenant}/"), "in another tenant's folder"
        else:
            (found,) = Shelf(tier, 10**9, goods.CHUNK).records([entry.name])
            assert found is not None and tier.find(
                f"{entry.name.partition('/index/')[0]}/object/{found.object}"
            )
    led = {
        entry.name.rpartition("/")[2].partition(".")[0]
        for entry in tier.entries("v1/")
        if "/index/" in entry.name
    }
    found_again = sum(goods.has(shelf, tokens, tenant) for tenant, tokens in seen)
    assert found_again == len(led), "every record leads to the context that it was written for"
    return seen


def worked(tier: Tier, n: int, seconds: float, max_bytes: int, folder: Any) -> list[dict[str, Any]]:
    """What n processes did on one place for so long; each must end well."""
    children = [
        forked(report, tier, Random(i), time.time() + seconds, max_bytes, folder / f"{i}.json")
        for i in range(n)
    ]
    assert [ended(child) for child in children] == [0] * n, "a process saw an error or a mix-up"
    return [json.loads((folder / f"{i}.json").read_text()) for i in range(n)]


def numbered(number: int) -> list[int]:
    """The tokens of a context that workers share, or of one of their own."""
    return goods.context(number, 9 + number % N_CONTEXTS)


def report(tier: Tier, random: Random, until_s: float, max_bytes: int, path: Any) -> None:
    """Put, look up and clean at random, for several tenants; everything found must be right."""
    shelf, put, own, n_done = Shelf(tier, max_bytes, goods.CHUNK), set(), 0, 0
    while time.time() < until_s or n_done < LEAST:
        n_done += 1
        tenant, number, choice = random.choice(goods.TENANTS), random.randrange(N_CONTEXTS), random.random()
        if choice < 0.02:
            number, own = os.getpid() * 1000 + own, own + 1
        tokens = numbered(number)
        if choice < 0.3:
            goods.put(shelf, tokens, tenant, 500 * len(tokens))
            put.add((tenant, number))
        elif choice < 0.31:
            upkeep.gc(shelf)
        else:
            asked = [*tokens[: random.randrange(1, len(tokens) + 1)], 5, 5]
            hit = shelf.longest(goods.key(tenant), asked)
            if hit is not None:
                goods.check(hit, tenant, asked)
    counts = {name: getattr(shelf.counts, name) for name in shelf.counts.__slots__}
    path.write_text(json.dumps({**counts, "put": sorted(put), "bytes": tiers.total(tier.entries("v1/"))}))
