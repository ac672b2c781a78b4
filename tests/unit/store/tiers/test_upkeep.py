"""Listing, removing and cleaning: what crashes leave goes after its time, what is whole stays."""

from __future__ import annotations

import os
import time

import pytest

from keyvalise.store.tiers import census, upkeep
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.tier import Tier
from keyvalise.store.tiers.upkeep import Collected
from keyvalise.types.errors import StoreError
from tests.unit.store.tiers.goods import CHUNK, context, has, key, payload, put


@pytest.fixture
def shelf(tier: Tier) -> Shelf:
    """A shelf with one context of nobody's and two of Ada's."""
    found = Shelf(tier, 10**6, CHUNK)
    put(found, context(1, 30))
    put(found, context(1, 30), "ada")
    found.put(
        key("ada", recipe="a recipe"),
        context(2, 9),
        lambda: payload("ada", context(2, 9), 70),
        is_croppable=False,
        about={"recipe": "shown"},
    )
    return found


def test_rows_and_counts(shelf: Shelf) -> None:
    rows = upkeep.rows(shelf)
    assert sorted((row.recipe, row.n_tokens, row.is_croppable, row.model) for row in rows) == [
        ("full", 30, True, "m"),
        ("full", 30, True, "m"),
        ("shown", 9, False, "m"),
    ]
    assert {row.tenant for row in rows} == {key().tenant, key("ada").tenant}
    assert [row.used_s for row in rows] == sorted((row.used_s for row in rows), reverse=True)
    assert [len(upkeep.rows(shelf, salt)) for salt in ("", "ada", "bob")] == [1, 2, 0]
    found = upkeep.stats(shelf)
    assert (found.n_objects, found.n_tenants, found.puts, found.max_bytes) == (3, 2, 3, 10**6)
    assert found.n_bytes == sum(row.n_bytes for row in rows) == sum(e.n_bytes for e in shelf.tier.entries())
    assert found.uri == shelf.tier.uri and found.bytes_written < found.n_bytes


def test_contexts_with_equal_bytes_share_an_object(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    for adapter in ("", "x"):
        shelf.put(key(adapter=adapter), context(1), lambda: b"same", is_croppable=True)
    rows = upkeep.rows(shelf)
    assert len(rows) == 2 and len({row.object for row in rows}) == 1 == upkeep.stats(shelf).n_objects
    upkeep.remove(shelf, [rows[0].object])
    assert upkeep.rows(shelf) == [] and shelf.tier.entries() == []


def test_removing_by_name(shelf: Shelf) -> None:
    name = upkeep.rows(shelf, "ada")[0].object
    (gone,) = upkeep.remove(shelf, [name[:9], name])
    assert gone.name == name and len(upkeep.rows(shelf)) == 2
    assert len(shelf.tier.entries()) == 4
    for words, said in (
        ([name[:9]], "no object begins with"),
        (["abc"], "'abc' is too short to name an object; give at least 6 digits"),
        (["z" * 8], "no object begins with 'zzzzzzzz'; `keyvalise store ls`"),
    ):
        with pytest.raises(StoreError, match=said):
            upkeep.remove(shelf, words)
    with pytest.raises(StoreError, match="no object begins"):
        upkeep.remove(shelf, [upkeep.rows(shelf, "")[0].object], "ada")
    assert len(upkeep.rows(shelf)) == 2


def test_a_name_of_several_removes_none() -> None:
    shelf = Shelf(MemoryTier(), 10**6, CHUNK)
    for tenant in ("ada", "bob"):
        shelf.put(key(tenant), context(1), lambda: b"same", is_croppable=True)
    (name,) = {row.object for row in upkeep.rows(shelf)}
    with pytest.raises(StoreError, match="2 objects begin with"):
        upkeep.remove(shelf, [name])
    assert upkeep.remove(shelf, [name], "ada") and len(upkeep.rows(shelf)) == 1


def test_what_nobody_can_use_goes_after_its_time(shelf: Shelf) -> None:
    tier, (orphan, dangling, _) = shelf.tier, census.taken(shelf.tier)
    assert orphan.object is not None and dangling.object is not None
    for entry in (*orphan.records, dangling.object):
        tier.delete(entry.name)
    assert len(upkeep.rows(shelf)) == 1
    assert upkeep.gc(shelf, 60.0) == Collected(0, 0, 0, 0, 0, 0) and len(census.taken(tier)) == 3
    found = upkeep.gc(shelf, -1.0)
    assert (found.orphans, found.dangling, found.evicted) == (1, 1, 0) and found.n_bytes > 0
    assert len(census.taken(tier)) == len(upkeep.rows(shelf)) == 1


def test_cleaning_down_to_a_bound(shelf: Shelf) -> None:
    assert has(shelf, context(1, 30), "ada")
    assert upkeep.gc(shelf).evicted == 0
    found = upkeep.gc(shelf, max_bytes=5000)
    assert found.evicted == 1 and sorted(row.n_tokens for row in upkeep.rows(shelf, "ada")) == [9, 30]
    assert has(shelf, context(1, 30), "ada") and not has(shelf, context(1, 30))
    assert upkeep.gc(shelf, max_bytes=0).evicted == 2 and upkeep.rows(shelf) == []


def test_a_thorough_cleaning_reads_everything(shelf: Shelf) -> None:
    name = next(entry.name for entry in shelf.tier.entries() if "/object/" in entry.name)
    shelf.tier.put(name, b"other")
    assert upkeep.gc(shelf).damaged == 0
    with pytest.warns(UserWarning, match="was damaged"):
        found = upkeep.gc(shelf, is_thorough=True)
    assert found.damaged == 1 and len(upkeep.rows(shelf)) == 2 and len(shelf.tier.entries()) == 4
    assert upkeep.gc(shelf, is_thorough=True).damaged == 0


def test_drafts_of_the_dead(tmp_path) -> None:
    shelf = Shelf(DirectoryTier(tmp_path / "store"), 10**6, CHUNK)
    put(shelf, context(1))
    draft = shelf.tier.root / "drafts" / "1.x"
    draft.write_bytes(b"half")
    assert upkeep.gc(shelf).drafts == 0
    os.utime(draft, (0, time.time() - 3601))
    assert upkeep.gc(shelf) == Collected(1, 0, 0, 0, 0, 4) and has(shelf, context(1))
