"""Imports point down."""

from __future__ import annotations

import pytest

from tests.house.checks import floors
from tests.house.checks.source import Source, read


def test_imports_point_down() -> None:
    found = floors.violations(read())
    assert not found, "\n".join(found)


def test_no_import_circles() -> None:
    found = floors.circles(read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("ops/pool.py", "from keyvalise.score import window", "above"),
        ("ops/pool.py", "def f():\n    import keyvalise.host.cache", "above"),
        ("types/data.py", "if TYPE_CHECKING:\n    from keyvalise.ops import pool", "above"),
        ("types/data.py", "from keyvalise import KVCache", "above"),
        ("score/window.py", "from keyvalise import select", "strangers"),
        ("score/window.py", "from ..select import top", "strangers"),
        ("store/tail.py", "import keyvalise.encode.ints as ints", "strangers"),
        ("host/cache.py", "import importlib\nimportlib.import_module('keyvalise.cli')", "above"),
        ("score/window.py", "import importlib\nimportlib.import_module('keyvalise.' + name)", "computed"),
        ("attic/old.py", "x = 1", "no floor"),
    ],
)
def test_violations_are_found(path: str, text: str, word: str) -> None:
    found = floors.violations([Source(path, text), Source("select/top.py", "y = 2")])
    assert len(found) == 1 and word in found[0], found


def test_what_is_allowed_passes() -> None:
    allowed = [
        Source("score/window.py", "from keyvalise.observe import window\nfrom keyvalise.ops import pool"),
        Source("observe/window.py", "from keyvalise.types.data import Piece\nimport torch"),
        Source(
            "recipe/catalogue.py",
            "PARTS = {'int4': 'keyvalise.encode.ints'}\nimportlib.import_module(PARTS['int4'])",
        ),
        Source("cli/__init__.py", "import keyvalise\nfrom keyvalise.bench import run"),
    ]
    assert floors.violations(allowed) == []


def test_circles_are_found() -> None:
    round_trip = [
        Source("ops/a.py", "from keyvalise.ops import b"),
        Source("ops/b.py", "def f():\n    from keyvalise.ops import a"),
    ]
    assert floors.circles(round_trip) == ["ops.a → ops.b → ops.a"]
    for_types = Source("ops/b.py", "if TYPE_CHECKING:\n    from keyvalise.ops import a")
    assert floors.circles([round_trip[0], for_types]) == []
