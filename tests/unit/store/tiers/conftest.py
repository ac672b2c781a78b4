"""A server for all tests of a worker, and places on which shelves stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvalise.store.tiers.tier import Tier
from tests.unit.store.tiers import places


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Valkey or Redis server on a free port of this machine."""
    with places.server(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture(params=places.KINDS)
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Tier:
    """An empty place, of every kind in turn."""
    return places.made(request.param, tmp_path, request)


@pytest.fixture(params=places.SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Tier:
    """An empty place that forked processes use together."""
    return places.made(request.param, tmp_path, request)
