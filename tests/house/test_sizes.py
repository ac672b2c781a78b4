"""Files and functions stay small; every exception has a reason and is still needed."""

from __future__ import annotations

import pytest

from tests.house.checks import sizes
from tests.house.checks.source import ROOT, Source, read


def test_sizes() -> None:
    found = sizes.violations(read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["tests", "bench", "tools"])
def test_files_around_the_package_are_no_longer(folder: str) -> None:
    counts = {file.path: len(file.text.splitlines()) for file in read(ROOT / folder)}
    assert counts and not {path: n for path, n in counts.items() if n > sizes.FILE}


def test_every_exception_has_a_reason() -> None:
    assert all(len(entry.reason) >= 15 for entry in sizes.EXCEPTIONS)


def _lines(n: int) -> str:
    return "\n".join(f"x{i} = {i}" for i in range(n))


def _body(n: int) -> str:
    return "\n".join(f"    x{i} = {i}" for i in range(n))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        ("file", "store/tail.py", _lines(301)),
        ("flow", "flow.py", _lines(151)),
        ("part", "score/window.py", _lines(61)),
        ("recipe", "recipes/snapkv.py", _lines(21)),
        ("function", "ops/pool.py", "def f():\n" + _body(50)),
        ("arguments", "ops/pool.py", "def f(a, b, c, d, e, f): ..."),
        ("arguments", "ops/pool.py", "class A:\n    def f(self, a, b, c, d, e, f=1): ..."),
    ],
)
def test_violations_are_found(rule: str, path: str, text: str) -> None:
    found = sizes.violations([Source(path, text)], exceptions=())
    assert len(found) == 1 and f": {rule} " in found[0], found


def test_docstrings_and_keywords_do_not_count() -> None:
    essay = '"""' + "word\n" * 200 + '"""\n'
    allowed = [
        Source("score/window.py", essay + _lines(60)),
        Source("recipes/snapkv.py", essay + _lines(20)),
        Source("ops/pool.py", "class A:\n    def f(self, a, b, c, d, e, *, f=1, g=2): ..."),
        Source("cli/demo.py", "@app.command()\ndef demo(a, b, c, d, e, f, g): ..."),
    ]
    assert sizes.violations(allowed, exceptions=()) == []


def test_a_stale_exception_is_found() -> None:
    entry = sizes.Allowed("file", "store/*.py", "long because it is a table")
    assert sizes.violations([Source("store/tail.py", _lines(301))], (entry,)) == []
    assert "no longer needed" in sizes.violations([Source("store/tail.py", _lines(30))], (entry,))[0]
