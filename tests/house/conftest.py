"""House tests that need a room say so; without it they are skipped by name, never passed."""

from __future__ import annotations

import pytest

from tests.house.checks.source import PACKAGE

PUBLIC_ROOMS = ("host", "recipe", "recipes", "reference")


@pytest.fixture
def needs_public_rooms() -> None:
    """The rooms that public names come from."""
    _need(*PUBLIC_ROOMS)


@pytest.fixture
def needs_cli() -> None:
    """The command line and what it stands on."""
    _need(*PUBLIC_ROOMS, "cli")


def _need(*rooms: str) -> None:
    missing = [room for room in rooms if not (PACKAGE / room / "__init__.py").is_file()]
    if missing:
        pytest.skip(f"not built yet: {', '.join(missing)}")
