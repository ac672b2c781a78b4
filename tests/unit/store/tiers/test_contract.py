"""What every place promises, asked of each kind."""

from __future__ import annotations

import time

import pytest

from keyvalise.store.tiers import tier as tiers
from keyvalise.store.tiers.tier import Swept, Tier
from keyvalise.types.errors import StoreError

LARGE = bytes(range(256)) * 130
"""Several parts, the last of them shorter."""


def test_what_is_put_is_got_and_can_be_replaced(tier: Tier) -> None:
    assert tier.get("v1/a/b") is None and tier.find("v1/a/b") is None
    for data in (LARGE, b"short", b"", LARGE[:1000], LARGE[:1001]):
        tier.put("v1/a/b", data)
        assert tier.get("v1/a/b") == data
        found = tier.find("v1/a/b")
        assert found is not None and (found.name, found.n_bytes) == ("v1/a/b", len(data))
    assert len(tier.entries()) == 1


def test_several_at_once(tier: Tier) -> None:
    names = [f"v1/{i}" for i in range(7)]
    for i, name in enumerate(names):
        tier.put(name, LARGE[i : i * 333])
    asked = [names[3], "v1/none", *names, names[3]]
    assert tier.get_many(asked) == [tier.get(name) for name in asked]
    assert tier.get_many([]) == []


def test_a_listing_holds_what_begins_so_and_nothing_else(tier: Tier) -> None:
    assert tier.entries() == [] and tier.entries("v1/") == []
    for name in ("v1/a/one", "v1/a/two", "v1/ab", "v1/b/a/three", "v2"):
        tier.put(name, name.encode() * 300)
        tier.touch(name)

    def listed(prefix: str) -> dict[str, int]:
        return {entry.name: entry.n_bytes for entry in tier.entries(prefix)}

    assert listed("v1/a/") == {"v1/a/one": 2400, "v1/a/two": 2400}
    assert listed("v1/a") == {"v1/a/one": 2400, "v1/a/two": 2400, "v1/ab": 1500}
    assert listed("v1/a/t") == {"v1/a/two": 2400} and listed("v3") == {}
    assert all(
        sorted(tier.names(prefix)) == sorted(listed(prefix)) for prefix in ("v1/a/", "v1/a/t", "v3", "")
    )
    assert len(listed("")) == 5 and tiers.total(tier.entries("v1/b/")) == 12 * 300


def test_what_is_taken_back_is_gone(tier: Tier) -> None:
    tier.put("v1/a/b", LARGE)
    tier.put("v1/a/c", b"other")
    tier.touch("v1/a/b")
    for _ in range(2):
        tier.delete("v1/a/b")
        assert tier.get("v1/a/b") is None and tier.find("v1/a/b") is None
    tier.touch("v1/a/b")
    assert [entry.name for entry in tier.entries()] == ["v1/a/c"] and tier.get("v1/a/b") is None


def test_what_was_read_is_the_readers_own(tier: Tier) -> None:
    tier.put("v1/a", LARGE)
    data = tier.get("v1/a")
    tier.put("v1/a", b"other")
    tier.delete("v1/a")
    assert isinstance(data, bytes) and data == LARGE


def test_a_use_is_remembered(tier: Tier) -> None:
    before = time.time()
    tier.put("v1/a", b"a")
    tier.put("v1/b", b"b")
    first = tier.find("v1/a")
    assert first is not None and before - 2 <= first.used_s <= time.time() + 2
    time.sleep(0.02)
    tier.touch("v1/a")
    after = tier.find("v1/a")
    assert after is not None and after.used_s > first.used_s
    assert max(tier.entries(), key=lambda entry: entry.used_s) == after


def test_sweeping_leaves_what_is_published(tier: Tier) -> None:
    tier.put("v1/a", LARGE)
    tier.touch("v1/a")
    assert tier.sweep(0.0) == Swept() and tier.get("v1/a") == LARGE and len(tier.entries()) == 1


def test_room_is_told_or_unknown(tier: Tier) -> None:
    free = tier.free_bytes()
    assert free is None or free > 0
    assert tier.uri and isinstance(tier.is_local, bool)


@pytest.mark.parametrize(
    "name", ["", "/v1", "../v1", "v1/../../x", "v1//a", "V1", "v1/a b", "v1/", ".x", "v1/\n"]
)
def test_names_that_are_none(tier: Tier, name: str) -> None:
    with pytest.raises(StoreError, match="is no name in a store"):
        tier.put(name, b"x")
    assert tier.entries() == []
