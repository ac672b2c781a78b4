"""A folder as a place: private files, drafts that nobody sees, and what happens while others are at work."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from keyvalise.store.tiers import directory
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.tier import Swept
from keyvalise.types.errors import StoreError, StoreFailure


@pytest.fixture
def tier(tmp_path: Path) -> DirectoryTier:
    return DirectoryTier(tmp_path / "far" / "store")


def modes(root: Path) -> set[tuple[bool, int]]:
    """(is a folder, permissions) of everything below."""
    return {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in [root, *root.rglob("*")]}


def test_files_are_for_this_user_alone(tier: DirectoryTier) -> None:
    before = os.umask(0)
    try:
        tier.put("v1/a/b/c", b"x")
    finally:
        os.umask(before)
    assert modes(tier.root) == {(True, 0o700), (False, 0o600)}


def test_nothing_is_made_before_something_is_put(tier: DirectoryTier) -> None:
    assert tier.get("v1/a") is None and tier.entries() == [] and tier.free_bytes() and not tier.root.exists()


def test_drafts_are_seen_by_nobody_and_swept_when_they_are_old(tier: DirectoryTier) -> None:
    tier.put("v1/a", b"x")
    draft = tier.root / directory.DRAFTS / "77.abc"
    draft.write_bytes(b"half")
    assert [entry.name for entry in tier.entries()] == ["v1/a"]
    assert tier.sweep(60.0) == Swept() and draft.exists()
    os.utime(draft, (0, time.time() - 61))
    assert tier.sweep(60.0) == Swept(1, 4) and not draft.exists() and tier.get("v1/a") == b"x"


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_what_cannot_be_written_leaves_nothing(
    tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    tier.put("v1/a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        StoreFailure, match=r"cannot write v1/a in the store .*store: No space left on device$"
    ):
        tier.put("v1/a", b"new")
    monkeypatch.undo()
    assert tier.get("v1/a") == b"old" and list((tier.root / directory.DRAFTS).iterdir()) == []


def test_a_folder_that_is_swept_away_meanwhile_is_made_again(
    tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, times = os.replace, []

    def late(source: Path, target: Path) -> None:
        times.append(1)
        if len(times) < 3:
            target.parent.rmdir()
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    tier.put("v1/a/b", b"x")
    assert tier.get("v1/a/b") == b"x" and len(times) == 3


def test_empty_folders_go_with_the_last_name(tier: DirectoryTier) -> None:
    tier.put("v1/a/b/c", b"x")
    tier.put("v1/a/d", b"y")
    tier.delete("v1/a/b/c")
    assert not (tier.root / "v1/a/b").exists() and tier.get("v1/a/d") == b"y"
    tier.delete("v1/a/d")
    assert not (tier.root / "v1").exists() and tier.root.exists()


def test_a_reader_that_has_begun_goes_on_and_one_that_is_late_finds_nothing(
    tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier.put("v1/a", b"x" * 999)
    with open(tier.root / "v1/a", "rb") as begun:
        tier.delete("v1/a")
        assert tier.get("v1/a") is None and begun.read() == b"x" * 999
    tier.put("v1/a", b"y")
    monkeypatch.setattr(Path, "stat", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ESTALE, "stale")))
    assert tier.find("v1/a") is None


def test_names_that_vanish_during_a_listing_are_left_out(
    tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        tier.put(f"v1/{name}", b"x")
    scan = os.scandir

    def slow(path: Path):
        found = scan(path)
        if path == tier.root / "v1":
            listed = list(found)
            (tier.root / "v1/b").unlink()
            return _Listing(listed)
        return found

    monkeypatch.setattr(os, "scandir", slow)
    assert sorted(entry.name for entry in tier.entries()) == ["v1/a", "v1/c"]


class _Listing(list):
    def __enter__(self):
        return iter(self)

    def __exit__(self, *_):
        return None


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not show what is mapped")
def test_nothing_is_mapped(tier: DirectoryTier) -> None:
    tier.put("v1/a", b"x" * 2**20)
    data = tier.get("v1/a")
    assert data is not None and str(tier.root) not in Path("/proc/self/maps").read_text()
    os.truncate(tier.root / "v1/a", 0)
    assert data.count(b"x") == 2**20


def test_a_store_that_can_only_be_read(tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch) -> None:
    tier.put("v1/a", b"x")
    monkeypatch.setattr(os, "utime", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))
    tier.touch("v1/a")
    assert tier.get("v1/a") == b"x"


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(StoreError, match=r"x is a file; a store needs a folder$"):
        DirectoryTier(tmp_path / "x")
    under = DirectoryTier(tmp_path / "x" / "y")
    assert under.get("v1/a") is None and under.entries() == []
    with pytest.raises(
        StoreFailure, match=r"cannot write v1/a in the store .*: (Not a directory|File exists)$"
    ):
        under.put("v1/a", b"x")


def test_a_folder_that_cannot_be_read_is_told(tier: DirectoryTier, monkeypatch: pytest.MonkeyPatch) -> None:
    tier.put("v1/a", b"x")
    monkeypatch.setattr(
        os, "scandir", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(StoreFailure, match=r"cannot list the store .*: Permission denied$"):
        tier.entries()
