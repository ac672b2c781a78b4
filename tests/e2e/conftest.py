"""The command line in this process, with the embedded model loaded once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from keyvalise.cli import door
from keyvalise.reference import loading


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def reference():
    """(model, tokenizer)."""
    return loading.model(loading.REFERENCE, "cpu")


@pytest.fixture
def run(reference, monkeypatch, capsys):
    """run("demo", "--quick") → what it did; nothing but the loading of the model is replaced."""
    load = loading.model

    def loaded(name, device):
        return reference if (name, device) == (loading.REFERENCE, "cpu") else load(name, device)

    def ran(*words: object) -> Ran:
        monkeypatch.setattr(loading, "model", loaded)
        code = door.run([str(word) for word in words])
        return Ran(code, *capsys.readouterr())

    return ran
