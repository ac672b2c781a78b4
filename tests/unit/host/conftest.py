"""A store in a folder of the test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyvalise import Store
from tests.unit.host.kept import CHUNK


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", chunk=CHUNK)
