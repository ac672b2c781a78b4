"""A shelf holds no more than its bound, and what is asked for again stays."""

from __future__ import annotations

import time
from random import Random

import pytest

from keyvalise.store.tiers import census, shelf, upkeep
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.tier import Tier
from keyvalise.types.errors import StoreError
from tests.unit.store.tiers.goods import CHUNK, context, has, put

TICK_S = 0.01
"""File systems tell times apart that lie so far from each other."""


@pytest.fixture
def full(tier: Tier) -> Shelf:
    """A shelf with room for ten payloads and a half, on every kind of place."""
    return Shelf(tier, 10 * _cost() + _cost() // 2, CHUNK)


def _cost() -> int:
    """Bytes of a usual object with its record."""
    shelf = Shelf(MemoryTier(), 10**6, CHUNK)
    put(shelf, context(1))
    return upkeep.stats(shelf).n_bytes


def test_the_bound_holds_and_the_longest_unused_goes_first(full: Shelf) -> None:
    for number in range(10):
        put(full, context(number))
        time.sleep(TICK_S)
    assert full.counts.evicted == 0 and all(has(full, context(number)) for number in (0, 3, 7))
    for number in range(10, 14):
        put(full, context(number))
        assert upkeep.stats(full).n_bytes <= full.max_bytes
        time.sleep(TICK_S)
    kept = [number for number in range(14) if has(full, context(number))]
    assert kept == [0, 3, 6, 7, 8, 9, 10, 11, 12, 13] and full.counts.evicted == 4


def test_putting_again_is_a_use(full: Shelf) -> None:
    for number in (*range(10), 0):
        put(full, context(number))
        time.sleep(TICK_S)
    put(full, context(10))
    assert has(full, context(0)) and not has(full, context(1))


def test_what_is_larger_than_the_bound_is_refused_and_nothing_goes(full: Shelf) -> None:
    put(full, context(1))
    with pytest.raises(
        StoreError, match=r"^a cache of [\d,]+ bytes does not fit into the store .*, which is bounded"
    ):
        put(full, context(2), n_bytes=full.max_bytes)
    assert has(full, context(1)) and upkeep.stats(full).n_objects == 1


def test_the_bound_that_nobody_gave(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tier), "free_bytes", lambda _: 10**9)
    assert Shelf(tier).max_bytes == 10**8
    tier.put("v1/x", b"x" * 1000)
    assert Shelf(tier).max_bytes == 10**8 + 100, "what the store holds itself counts as free"
    monkeypatch.setattr(type(tier), "free_bytes", lambda _: 10**15)
    assert Shelf(tier).max_bytes == shelf.CEILING
    monkeypatch.setattr(type(tier), "free_bytes", lambda _: None)
    assert Shelf(tier).max_bytes == shelf.CEILING


def test_what_is_used_meanwhile_is_not_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process reads the victim between the count and its removal."""
    shelf = Shelf(MemoryTier(), 3 * _cost() + 500, CHUNK)
    for number in range(3):
        put(shelf, context(number))
        time.sleep(TICK_S)
    count = census.victims

    def late(*words):
        found = count(*words)
        shelf.tier.touch(found[0].object.name)
        monkeypatch.undo()
        return found

    monkeypatch.setattr(census, "victims", late)
    put(shelf, context(3))
    assert [has(shelf, context(number)) for number in range(4)] == [True, False, True, True]
    assert upkeep.stats(shelf).n_bytes <= shelf.max_bytes


@pytest.mark.parametrize("seed", range(3))
def test_reuse_does_not_decay(seed: int) -> None:
    """200 requests, each a shuffled mix of documents that are stored one by one; room for 1.2 times all."""
    random = Random(seed)
    documents = [context(number, random.randrange(10, 60)) for number in range(24)]
    sizes = [random.randrange(1000, 9000) for _ in documents]
    corpus = Shelf(MemoryTier(), 10**9, CHUNK)
    for tokens, n_bytes in zip(documents, sizes, strict=True):
        put(corpus, tokens, n_bytes=n_bytes)
    shelf, hits = Shelf(MemoryTier(), int(1.2 * upkeep.stats(corpus).n_bytes), CHUNK), []
    for _ in range(200):
        mix = random.sample(range(len(documents)), 5)
        found = [has(shelf, documents[number]) for number in mix]
        for number, is_there in zip(mix, found, strict=True):
            if not is_there:
                put(shelf, documents[number], n_bytes=sizes[number])
        hits.append(sum(found) / len(mix))
    assert sum(hits[-50:]) >= 0.9 * sum(hits[:50]) and sum(hits[-50:]) == 50
    assert shelf.counts.hits > 900


def test_a_flood_of_contexts_that_never_come_again_leaves_those_that_do() -> None:
    """The mixes are stored too, one per request; by recency alone half of the documents would be lost."""
    random, shelf = Random(7), Shelf(MemoryTier(), int(1.2 * 12 * _cost()), CHUNK)
    documents, hits = [context(number) for number in range(12)], []
    for request in range(200):
        mix = random.sample(range(12), 4)
        found = [has(shelf, documents[number]) for number in mix]
        for number, is_there in zip(mix, found, strict=True):
            if not is_there:
                put(shelf, documents[number])
        put(shelf, context(1000 + request), n_bytes=4 * 3000)
        hits.append(sum(found) / 4)
        assert upkeep.stats(shelf).n_bytes <= shelf.max_bytes
    assert sum(hits[-50:]) / 50 > 0.6 and sum(hits[-50:]) >= 0.9 * sum(hits[:50])
