"""The public face: exactly these names, typed, resolved lazily, never hidden by a room of the same name."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

from tests.house.checks.source import PACKAGE, ROOT

PUBLIC = [
    "KVCache",
    "Recipe",
    "Store",
    "answer",
    "detach",
    "parts",
    "recipes",
    "reference",
    "shorten",
    "tasks",
]
ROOMS_AS_WELL = ("recipes", "reference")


@pytest.mark.usefixtures("needs_public_rooms")
def test_exactly_these_names() -> None:
    import keyvalise

    assert keyvalise.__all__ == PUBLIC
    assert importlib.import_module("keyvalise.api").__all__ == PUBLIC
    assert set(PUBLIC) <= set(dir(keyvalise))
    assert (PACKAGE / "py.typed").is_file()


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    named = [
        a.name
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and n.module == "keyvalise.api"
        for a in n.names
    ]
    assert named == PUBLIC


@pytest.mark.usefixtures("needs_public_rooms")
@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_resolves_and_is_described(name: str) -> None:
    import keyvalise

    found = getattr(keyvalise, name)
    assert inspect.ismodule(found) == (name == "tasks")
    assert inspect.getdoc(found)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import keyvalise

    with pytest.raises(AttributeError, match="has no attribute 'Shelf'"):
        keyvalise.Shelf


@pytest.mark.usefixtures("needs_public_rooms")
@pytest.mark.parametrize("name", ROOMS_AS_WELL)
def test_a_room_never_hides_the_function_of_its_name(name: str) -> None:
    code = f"import keyvalise.{name}, keyvalise; assert callable(keyvalise.{name})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_version_is_the_one_of_the_project_file() -> None:
    import tomllib

    import keyvalise

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert keyvalise.__version__ == project["version"]
