"""A server as a place: parts without a manifest, a server that forgets, and one that is not there."""

from __future__ import annotations

import importlib
import json
import threading

import pytest

from keyvalise.store.tiers import valkey
from keyvalise.store.tiers.valkey import DRAFT_S, ValkeyTier
from keyvalise.types.errors import StoreError, StoreFailure
from tests.unit.store.tiers import places

LARGE = bytes(range(256)) * 30


@pytest.fixture
def tier(address: str) -> ValkeyTier:
    return places.emptied(address)


def keys(tier: ValkeyTier, what: str) -> list[bytes]:
    return sorted(tier._client.keys(f"{valkey.PREFIX}:{what}:*"))


def test_parts_stay_once_their_manifest_is_published(tier: ValkeyTier) -> None:
    tier.put("v1/a", LARGE)
    assert len(keys(tier, "part")) == 8 and {tier._client.ttl(key) for key in keys(tier, "part")} == {-1}
    tier.put("v1/a", LARGE[:1500])
    assert len(keys(tier, "part")) == 2 and tier.get("v1/a") == LARGE[:1500]
    tier.delete("v1/a")
    assert tier._client.keys("*") == []


def test_a_writer_that_dies_leaves_nothing_that_lasts(
    tier: ValkeyTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tier._client, "eval", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        tier.put("v1/a", LARGE)
    assert tier.get("v1/a") is None and tier.entries() == [] and keys(tier, "is") == []
    assert len(keys(tier, "part")) == 8
    assert all(0 < tier._client.ttl(key) <= DRAFT_S for key in keys(tier, "part"))


def test_a_writer_that_took_too_long_publishes_nothing(
    tier: ValkeyTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier.put("v1/a", b"old")
    publish = tier._client.eval

    def late(*words: object) -> object:
        tier._client.delete(keys(tier, "part")[-1])
        return publish(*words)

    monkeypatch.setattr(tier._client, "eval", late)
    monkeypatch.setattr(valkey.secrets, "token_hex", lambda n: "f" * n)
    with pytest.raises(StoreFailure, match=r"cannot write v1/a .*: it took longer than 600 s"):
        tier.put("v1/a", LARGE)
    assert tier.get("v1/a") == b"old"


def test_a_server_that_forgets_a_part_has_nothing(tier: ValkeyTier) -> None:
    tier.put("v1/a", LARGE)
    tier.put("v1/b", b"kept")
    tier._client.delete(keys(tier, "part")[3])
    assert tier.get_many(["v1/a", "v1/b"]) == [None, b"kept"]


def test_names_of_forgotten_manifests_are_swept(tier: ValkeyTier) -> None:
    tier.put("v1/a", b"x")
    tier.put("v1/b", b"y")
    tier._client.delete(keys(tier, "is")[0])
    assert tier.find("v1/a") is None and tier.get("v1/a") is None
    tier.sweep(0.0)
    assert [entry.name for entry in tier.entries()] == ["v1/b"]
    tier._client.flushall()
    assert tier.entries() == [] and tier.get("v1/b") is None


def test_writers_of_one_name_leave_one_set_of_parts(address: str, tier: ValkeyTier) -> None:
    def write(one: ValkeyTier, data: bytes) -> None:
        for _ in range(7):
            one.put("v1/a", data)

    others = [valkey.reached(address) for _ in range(3)]
    threads = [threading.Thread(target=write, args=(one, bytes([i]) * 50)) for i, one in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = tier.get("v1/a")
    assert data is not None and len(set(data)) == 1 and len(data) == 50
    assert len(keys(tier, "part")) == 1 and json.loads(tier._client.get(keys(tier, "is")[0]))["parts"] == 1


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    nobody = valkey.reached("redis://tina:secret@127.0.0.1:1/0")
    assert nobody.uri == "redis://127.0.0.1:1/0"
    for call in (
        nobody.entries,
        nobody.free_bytes,
        lambda: nobody.get("v1/a"),
        lambda: nobody.put("v1/a", b""),
    ):
        with pytest.raises(StoreFailure, match=r"the store redis://127.0.0.1:1/0: Error 111") as caught:
            call()
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_without_room_is_told(tier: ValkeyTier) -> None:
    tier._client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFailure, match=r"cannot write v1/a .*: .*maxmemory"):
            tier.put("v1/a", LARGE)
        assert tier.free_bytes() == 0
    finally:
        tier._client.config_set("maxmemory", 0)


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=r"cannot open the store redis://h:port"):
        valkey.reached("redis://user:word@h:port")
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(
        StoreError, match=r"valkey://host needs redis-py; install it with: pip install 'keyvalise\["
    ):
        valkey.reached("valkey://me:word@host")
