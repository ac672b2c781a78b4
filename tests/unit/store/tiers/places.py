"""Places for tests: one of each kind, and a server of our own that is stopped by its own number."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvalise.store.tiers import valkey
from keyvalise.store.tiers.directory import DirectoryTier
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.objects import ObjectTier
from keyvalise.store.tiers.tier import Tier

KINDS = ("directory", "memory", "folder of objects", "objects", "valkey")
SHARED = ("directory", "valkey")
"""Those that forked processes may use together."""

SERVERS = ("valkey-server", "redis-server")
STARTS_S = 10.0


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server that lives as long as the block."""
    program = next((path for path in map(shutil.which, SERVERS) if path), None)
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed here; .ci/run installs one")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder))
    running = subprocess.Popen([program, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(port, running)
        yield f"valkey://127.0.0.1:{port}/0"
    finally:
        running.terminate()
        running.wait()


def _await(port: int, running: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + STARTS_S
    while time.monotonic() < limit and running.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.02)
    pytest.fail(f"the server did not start on port {port}; it ended with {running.poll()}")


def emptied(address: str) -> valkey.ValkeyTier:
    """The server with nothing in it, seen through parts of few bytes."""
    tier = valkey.reached(address)
    tier._client.flushall()
    tier._part_bytes = 1000
    return tier


def made(kind: str, folder: Path, request: pytest.FixtureRequest) -> Tier:
    """An empty place of a kind."""
    if kind == "directory":
        return DirectoryTier(folder / "store")
    if kind == "memory":
        return MemoryTier()
    if kind == "valkey":
        return emptied(request.getfixturevalue("address"))
    stores = pytest.importorskip("obstore.store", reason="obstore is not installed: pip install obstore")
    if kind == "objects":
        return ObjectTier(stores.MemoryStore(), "memory of obstore")
    return ObjectTier(stores.LocalStore(folder / "objects", mkdir=True), uri="folder of obstore")
