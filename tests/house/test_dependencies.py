"""The project file names what the package imports: nothing missing, nothing idle, every version pinned."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest

from tests.house.checks.source import ROOT, read

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


def _imported() -> set[str]:
    roots = set()
    for source in read():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add((node.module or "").split(".")[0])
    return roots - set(sys.stdlib_module_names) - {"keyvalise"}


def test_every_import_is_declared() -> None:
    assert _imported() - _names(PROJECT["dependencies"]) == set()


@pytest.mark.usefixtures("needs_cli")
def test_every_dependency_is_imported() -> None:
    assert _names(PROJECT["dependencies"]) - _imported() == set()


def test_every_direct_dependency_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", pin) for pin in pins), pins
    wanted = _names([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
    assert {pin.split("==")[0] for pin in pins} == wanted
