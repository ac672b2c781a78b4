"""Addresses become places, or a sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyvalise.store.tiers import uri
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.valkey import ValkeyTier
from keyvalise.types.errors import StoreError


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text in (
        str(tmp_path / "a b"),
        (tmp_path / "a b").as_uri(),
        "~/a b",
        "a b",
        f"file://localhost{tmp_path}/a b",
    ):
        found = uri.tier(text)
        assert isinstance(found, DirectoryTier) and found.root == tmp_path / "a b" and found.is_local, text


def test_others() -> None:
    assert isinstance(uri.tier("memory://"), MemoryTier)
    for scheme in ("redis", "rediss", "valkey", "valkeys"):
        found = uri.tier(f"{scheme}://host:77/2?socket_timeout=3")
        assert isinstance(found, ValkeyTier) and found.uri == f"{scheme}://host:77/2" and not found.is_local
        wanted = found._client.get_connection_kwargs()
        assert (wanted["host"], wanted["port"], wanted["db"], wanted["socket_timeout"]) == (
            "host",
            77,
            2,
            3.0,
        )


def test_what_is_meant_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(uri.HOME, "/somewhere")
    monkeypatch.delenv(uri.VARIABLE, raising=False)
    assert uri.default() == "/somewhere/store"
    monkeypatch.setenv(uri.VARIABLE, "valkey://host")
    assert uri.default() == "valkey://host"
    monkeypatch.delenv(uri.VARIABLE)
    monkeypatch.delenv(uri.HOME)
    assert uri.tier(uri.default()).uri == str(Path.home() / ".cache" / "keyvalise" / "store")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://x", r"^no store is reached by ftp://; write a folder or one of file, memory, s3, .*valkey"),
        ("://x", r"^no store is reached by ://"),
        (" ", "^the address of a store is empty; give a folder$"),
        ("file://host/x", r"^file://host/x names a folder of the machine host; write file:///folder$"),
    ],
)
def test_what_is_no_address(text: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        uri.tier(text)
