"""Object storage as a place: uses beside objects, readers without the right to write, forked processes."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from keyvalise.store.tiers import objects
from keyvalise.store.tiers.objects import ObjectTier
from keyvalise.types.errors import StoreError, StoreFailure

stores = pytest.importorskip("obstore.store", reason="obstore is not installed: pip install obstore")


@pytest.fixture
def tier() -> ObjectTier:
    return ObjectTier(stores.MemoryStore(), "memory of obstore")


class ReadOnly:
    """A bucket that may only be read."""

    def __init__(self, bucket: Any):
        self.bucket = bucket

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bucket, name)

    def put(self, *_: object) -> None:
        raise PermissionError("The operation lacked the necessary privileges\n\nDebug source: …")


def test_uses_lie_beside_and_are_never_listed(tier: ObjectTier) -> None:
    tier.put("v1/a", b"x")
    tier.touch("v1/a")
    marks = [one["path"] for batch in tier._bucket.list() for one in batch]
    assert sorted(marks) == ["used/v1/a", "v1/a"] and [entry.name for entry in tier.entries()] == ["v1/a"]
    tier.delete("v1/a")
    assert [one for batch in tier._bucket.list() for one in batch] == []


def test_a_use_is_written_down_once_in_a_while(tier: ObjectTier) -> None:
    tier.put("v1/a", b"x")
    tier.touch("v1/a")
    first = tier.find("v1/a")
    tier.touch("v1/a")
    assert tier.find("v1/a") == first
    tier._written["v1/a"] -= objects.REFRESH_S
    tier.touch("v1/a")
    again = tier.find("v1/a")
    assert again is not None and first is not None and again.used_s > first.used_s


def test_marks_of_names_that_are_gone_are_swept(tier: ObjectTier) -> None:
    tier.put("v1/a", b"x")
    tier.touch("v1/a")
    tier._bucket.put("used/v1/b", b"")
    tier.sweep(60.0)
    assert len(tier._below("used/")) == 2
    tier.sweep(0.0)
    assert [mark.name for mark in tier._below("used/")] == ["used/v1/a"]


def test_whoever_may_only_read_reads(tier: ObjectTier) -> None:
    tier.put("v1/a", b"x")
    reader = ObjectTier(ReadOnly(tier._bucket), "a bucket")
    reader.touch("v1/a")
    assert reader.get("v1/a") == b"x"
    with pytest.raises(StoreFailure, match=r"^cannot write v1/b in the store a bucket: The operation lacked"):
        reader.put("v1/b", b"y")


def test_a_forked_process_is_told_instead_of_waiting_for_ever(tier: ObjectTier) -> None:
    tier.put("v1/a", b"x")
    child = os.fork()
    if child == 0:
        try:
            tier.get("v1/a")
        except StoreFailure as error:
            os._exit(7 if "start the process with the method spawn" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = objects.reached(tmp_path.as_uri())
    found.put("v1/a", b"x")
    assert (tmp_path / "v1" / "a").read_bytes() == b"x"
    with pytest.raises(StoreError, match=r"cannot open the store wx://a: "):
        objects.reached("wx://a")
    monkeypatch.setattr(importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(StoreError, match=r"s3://a needs obstore; install it with: pip install 'keyvalise\["):
        objects.reached("s3://a")
