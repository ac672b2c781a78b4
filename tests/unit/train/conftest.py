"""Models as they are before anybody has made a cache for them, whatever ran before."""

from __future__ import annotations

import pytest

import keyvalise
from tests.support.models import tiny


@pytest.fixture(autouse=True)
def untouched() -> None:
    """Nothing of ours is on the model that most of these tests share."""
    keyvalise.detach(tiny("llama"))
