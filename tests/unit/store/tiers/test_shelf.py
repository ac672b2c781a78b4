"""A shelf on every kind of place: what is found, what is refused, what is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.store.keys import Key
from keyvalise.store.tiers import record, shelf, upkeep
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.tier import Tier
from keyvalise.types.errors import StoreError
from tests.unit.store.tiers import goods
from tests.unit.store.tiers.goods import CHUNK, check, context, has, key, payload, put


def test_what_was_put_is_found_by_its_tokens_alone(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    tokens = context(1)
    assert not has(shelf, tokens) and shelf.counts.misses == 1
    name = put(shelf, tokens)
    assert has(shelf, tokens) and has(Shelf(tier, 10**6, CHUNK), tokens)
    assert not has(shelf, tokens[:-1]) and not has(shelf, [*tokens, 5]) and not has(shelf, context(2))
    assert (shelf.counts.hits, shelf.counts.misses, shelf.counts.puts) == (1, 4, 1)
    assert shelf.counts.bytes_read == shelf.counts.bytes_written == len(payload("", tokens))
    assert [row.object for row in upkeep.rows(shelf)] == [name]


def test_the_same_context_is_made_once(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    name = put(shelf, context(1))
    assert shelf.put(key(), context(1), lambda: 1 / 0, is_croppable=True) == name  # type: ignore[arg-type,return-value]
    assert (shelf.counts.puts, shelf.counts.kept) == (1, 1) and upkeep.stats(shelf).n_objects == 1


@pytest.mark.parametrize(
    ("n_common", "served"), [(30, 28), (29, 28), (28, 28), (27, 21), (7, 7), (6, 0), (0, 0)]
)
def test_what_can_be_cropped_serves_to_the_last_chunk_in_common(n_common: int, served: int) -> None:
    shelf = Shelf(MemoryTier(), 10**6, CHUNK)
    put(shelf, context(1, 33))
    hit = shelf.longest(key(), [*context(1, 33)[:n_common], *range(2000, 2040)])
    assert (0 if hit is None else hit.n_tokens) == served


def test_what_cannot_serves_requests_that_begin_with_all_of_it(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    for n in (3, 14, 30):
        put(shelf, context(1, n), is_croppable=False)
    for n, served in ((3, 3), (4, 3), (13, 3), (14, 14), (29, 14), (30, 30), (40, 30)):
        hit = shelf.longest(key(), context(1, n))
        assert hit is not None and hit.n_tokens == hit.record.n_tokens == served
        check(hit, "", context(1, n))
    assert shelf.longest(key(), context(1, 2)) is None


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.booleans()), max_size=6),
    st.lists(st.integers(0, 1), min_size=1, max_size=14),
)
def test_the_longest_is_found(stored: list[tuple[list[int], bool]], asked: list[int]) -> None:
    """Against the rule written down plainly, on tokens that often agree."""
    shelf = Shelf(MemoryTier(), 10**6, 3)
    first: dict[tuple[int, ...], bool] = {}
    for tokens, is_croppable in stored:
        put(shelf, tokens, is_croppable=is_croppable)
        first.setdefault(tuple(tokens), is_croppable)
    best = 0
    for known, is_croppable in first.items():
        same = next((i for i, (a, b) in enumerate(zip(known, asked, strict=False)) if a != b), None)
        same = min(len(known), len(asked)) if same is None else same
        best = max(best, len(known) if same == len(known) else same // 3 * 3 if is_croppable else 0)
    hit = shelf.longest(key(), asked)
    assert (0 if hit is None else hit.n_tokens) == best
    if hit is not None:
        check(hit, "", asked)
    whole = shelf.longest(key(), asked, is_whole=True)
    assert (whole is not None) == (best == len(asked))


def test_tenants_share_nothing(tier: Tier) -> None:
    shelf, tokens = Shelf(tier, 10**6, CHUNK), context(1)
    put(shelf, tokens, "ada")
    assert not has(shelf, tokens, "bob") and not has(shelf, tokens)
    same = shelf.put(key("bob"), tokens, lambda: payload("ada", tokens), is_croppable=True)
    assert same == upkeep.rows(shelf, "ada")[0].object, "equal bytes have equal names"
    assert [upkeep.stats(shelf, salt).n_objects for salt in ("ada", "bob", "", None)] == [1, 1, 0, 2]
    upkeep.clear(shelf, upkeep.everything(shelf, "bob"))
    assert has(shelf, tokens, "ada") and upkeep.stats(shelf, "bob").n_objects == 0


def test_an_adapter_called_like_a_salt_finds_nothing(tier: Tier) -> None:
    shelf, tokens = Shelf(tier, 10**6, CHUNK), context(1)
    shelf.put(key(adapter="x"), tokens, lambda: b"adapter", is_croppable=True)
    for other in (key("x"), key("x", adapter="x"), key(edits=("x",)), key(), key(adapter="x", seed=1)):
        assert shelf.longest(other, tokens) is None
    hit = shelf.longest(key(adapter="x"), tokens)
    assert hit is not None and hit.data == b"adapter"


def test_names_and_records_hold_no_token_and_no_salt(tmp_path: Path) -> None:
    tier = DirectoryTier(tmp_path / "store")
    shelf = Shelf(tier, 10**6, CHUNK)
    tokens = [7_777_777 + i for i in range(30)]
    shelf.put(Key("m", salt="secret-salt", edits=("secret-edit",)), tokens, lambda: b"", is_croppable=True)
    text = "".join(f"{path}{path.read_text() if path.is_file() else ''}" for path in tier.root.rglob("*"))
    assert "777777" not in text and "secret" not in text and '"tokens": 30' in text


def test_a_damaged_object_is_a_miss_that_is_told_and_removed(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    put(shelf, context(1))
    (entry,) = [entry for entry in tier.entries() if "/object/" in entry.name]
    data = bytearray(tier.get(entry.name) or b"")
    data[len(data) // 2] ^= 1
    tier.put(entry.name, bytes(data))
    with pytest.warns(UserWarning, match=r"^v1/.* was damaged and has been removed$"):
        assert not has(shelf, context(1))
    assert tier.find(entry.name) is None and upkeep.stats(shelf).damaged == 1
    assert not has(shelf, context(1)) and put(shelf, context(1)) and has(shelf, context(1))


def test_a_damaged_object_gives_way_to_a_shorter_one(tier: Tier) -> None:
    shelf = Shelf(tier, 10**6, CHUNK)
    put(shelf, context(1, 14))
    put(shelf, context(1, 30))
    name = next(row.object for row in upkeep.rows(shelf) if row.n_tokens == 30)
    (entry,) = [entry for entry in tier.entries() if entry.name.endswith(name)]
    tier.put(entry.name, (tier.get(entry.name) or b"")[:-1])
    with pytest.warns(UserWarning, match="was damaged"):
        hit = shelf.longest(key(), context(1, 30))
    assert hit is not None and hit.n_tokens == 14


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: b"", lambda data: data.replace(b"30", b"31")]
)
def test_a_damaged_record_is_a_miss_that_is_told_and_removed(tier: Tier, damage) -> None:
    put(Shelf(tier, 10**6, CHUNK), context(1))
    shelf = Shelf(tier, 10**6, CHUNK)
    (entry,) = [entry for entry in tier.entries() if "/index/" in entry.name]
    tier.put(entry.name, damage(tier.get(entry.name) or b""))
    with pytest.warns(UserWarning, match="was damaged"):
        assert not has(shelf, context(1))
    assert put(shelf, context(1)) and has(shelf, context(1))


def test_a_record_elsewhere_leads_nowhere(tier: Tier) -> None:
    """One tenant's record, copied among another's, names tokens that nobody else can ask for."""
    shelf, tokens = Shelf(tier, 10**6, CHUNK), context(1)
    put(shelf, tokens, "ada")
    put(shelf, tokens, "bob")
    mine, theirs = (
        {entry.name.rpartition("/")[0]: entry.name for entry in tier.entries(f"v1/{goods.key(name).tenant}/")}
        for name in ("ada", "bob")
    )
    index = next(folder for folder in mine if "/index/" in folder)
    for folder, name in theirs.items():
        target = index if "/index/" in folder else index.partition("/index/")[0] + "/object"
        tier.put(f"{target}/{name.rpartition('/')[2]}", tier.get(name) or b"")
    fresh = Shelf(tier, 10**6, CHUNK)
    assert has(fresh, tokens, "ada") and has(fresh, tokens, "bob")


@pytest.mark.parametrize(
    ("options", "said"), [({"max_bytes": 0}, "max_bytes must be"), ({"chunk": 0}, "chunk must be")]
)
def test_options_out_of_range(options: dict[str, int], said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Shelf(MemoryTier(), **options)


def test_what_is_evicted_while_it_is_published_is_published_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tier = MemoryTier()
    shelf, put_plainly, times = Shelf(tier, 10**6, CHUNK), tier.put, []

    def robbed(name: str, data: bytes) -> None:
        put_plainly(name, data)
        if "/index/" in name and len(times) < 2:
            times.append(1)
            for entry in tier.entries():
                tier.delete(entry.name)

    monkeypatch.setattr(tier, "put", robbed)
    put(shelf, context(1))
    assert has(shelf, context(1)) and len(times) == 2


def test_only_so_many_records_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "REMEMBERED", 7)
    one = Shelf(MemoryTier(), 10**6, CHUNK)
    for number in range(20):
        put(one, context(number, 3))
    assert all(has(one, context(number, 3)) for number in range(20)) and len(one._records) <= 7


def test_a_record_reads_as_it_was_written() -> None:
    one = record.Record("f" * 64, 7, 30, (b"a" * 32, b"b" * 32), b"t" * 32, True, {"recipe": "é"})
    data = one.to_bytes()
    name = record.record_name("t" * 32, "f" * 32, one)
    assert record.Record.read(name, data) == one and json.loads(data)["about"] == {"recipe": "é"}
    assert record.Record.read(name, data + b" ") is None and record.Record.read(name[:-1] + "x", data) is None
