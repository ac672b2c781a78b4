"""Which objects go first, against plain recency, on five ways of asking; docs/store.md shows the shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from keyvalise.store.tiers import census
from keyvalise.store.tiers.census import Holding
from keyvalise.store.tiers.tier import Entry

Request = tuple[object, int, bool]
"""(what is asked for, its bytes, whether only putting it counts as asking)"""

Order = Callable[[list[Holding], int, int], list[Holding]]


def by_recency(held: list[Holding], n_bytes: int, max_bytes: int) -> list[Holding]:
    """The longest unused first, in one line."""
    excess, chosen = sum(one.n_bytes for one in held) + n_bytes - max_bytes, []
    for one in held:
        if excess <= 0:
            break
        chosen.append(one)
        excess -= one.n_bytes
    return chosen


def hit_rate(requests: Iterator[Request], max_bytes: int, order: Order) -> float:
    """The share of requests that were there; what was not is put."""
    held: dict[object, Holding] = {}
    hits, n = 0, 0
    for clock, (name, n_bytes, is_put) in enumerate(requests):
        known = held.get(name)
        n, hits = n + (not is_put), hits + (known is not None and not is_put)
        if known is not None and known.object is not None:
            known.object = Entry("", n_bytes, clock)
            continue
        listed = sorted(held.values(), key=lambda one: one.used_s)
        for one in order(listed, n_bytes, max_bytes):
            held = {key: value for key, value in held.items() if value is not one}
        held[name] = Holding("", "", Entry("", n_bytes, clock - 0.5), [Entry("", 0, clock - 0.4)])
        assert sum(one.n_bytes for one in held.values()) <= max_bytes
    return hits / n


def documents(random: Random, with_mixes: bool = False) -> Iterator[Request]:
    """200 mixes of 4 of 12 documents, one by one; with each mix once, which never comes again."""
    sizes = [10 + number % 5 for number in range(12)]
    for _ in range(200):
        mix = random.sample(range(12), 4)
        yield from ((number, sizes[number], False) for number in mix)
        if with_mixes:
            yield tuple(mix), sum(sizes[number] for number in mix), True


def changing(random: Random) -> Iterator[Request]:
    """Other documents every 400 requests."""
    for i in range(1600):
        yield (i // 400, min(int(random.expovariate(0.15)), 14)), 10, False


def conversations(random: Random) -> Iterator[Request]:
    """Every turn asks for all before it, then puts itself."""
    live: list[list[int]] = []
    for i in range(1200):
        if len(live) < 8 or random.random() < 0.1:
            live = [*live, [i, 0]][-12:]
        one = random.choice(live)
        if one[1]:
            yield tuple(one), one[1], False
        one[1] += 1
        yield tuple(one), one[1], True
        if one[1] > 12:
            live.remove(one)


def popular(random: Random) -> Iterator[Request]:
    """300 documents, the i-th with weight i^−0.8."""
    weights = [(i + 1) ** -0.8 for i in range(300)]
    for number in random.choices(range(300), weights, k=2000):
        yield number, 10, False


ASKED: dict[str, tuple[Callable[[Random], Iterator[Request]], int, float]] = {
    "documents": (documents, 170, 1.0),
    "documents and mixes": (lambda random: documents(random, True), 170, 1.5),
    "changing documents": (changing, 100, 0.98),
    "conversations": (conversations, 300, 0.99),
    "by popularity": (popular, 300, 1.1),
}
"""name → requests, bound, and the least share of plain recency's hits that is asked for"""


@pytest.mark.parametrize("name", ASKED)
def test_two_lines_are_no_worse_than_one(name: str) -> None:
    requests, max_bytes, least = ASKED[name]
    one, two = (
        sum(hit_rate(requests(Random(seed)), max_bytes, order) for seed in range(2)) / 2
        for order in (by_recency, census.victims)
    )
    assert two >= least * one > 0.2, f"{name}: {one:.3f} by recency, {two:.3f} by trial"


def holding(name: str, n_bytes: int, used_s: float, is_proven: bool) -> Holding:
    """An object; a proven one was used after its record was written."""
    written = used_s - 1 if is_proven else used_s + 0.1
    return Holding("", name, Entry(name, n_bytes, used_s), [Entry("", 0, written)])


def test_trials_go_until_they_take_little_then_the_proven() -> None:
    held = [holding(name, 10, i, name.isupper()) for i, name in enumerate("aBcDeF")]

    def gone(n_bytes: int, max_bytes: int) -> str:
        return "".join(one.name for one in census.victims(held, n_bytes, max_bytes))

    assert gone(0, 60) == "" and gone(10, 60) == "a" and gone(5, 60) == "a"
    assert gone(20, 60) == "ac" and gone(10, 50) == "ac" and gone(10, 40) == "ace"
    assert gone(1, 30) == "aceB" and gone(0, 0) == "aceBDF" and gone(99, 10) == "aceBDF"


def test_a_few_trials_are_let_be() -> None:
    held = [holding("x", 10, 99, False), *(holding(name, 10, i, True) for i, name in enumerate("ABCDEFGHI"))]
    held = sorted(held, key=lambda one: one.used_s)
    assert [one.name for one in census.victims(held, 10, 100)] == ["A"]
    assert [one.name for one in census.victims(held, 30, 100)] == ["x", "A", "B"]


def test_what_is_not_whole_is_on_trial() -> None:
    orphan = Holding("", "o", Entry("o", 10, 5.0))
    dangling = Holding("", "d", None, [Entry("d", 10, 6.0)])
    held = [holding("A", 10, 1.0, True), orphan, dangling]
    assert [one.name for one in census.victims(held, 10, 30)] == ["o"]
    assert [one.name for one in census.victims(held, 20, 30)] == ["o", "d"]
    assert (orphan.used_s, dangling.n_bytes, orphan.is_whole, dangling.was_used) == (5.0, 10, False, False)
