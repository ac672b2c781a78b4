"""Public names are described; parts and recipes follow the template."""

from __future__ import annotations

import pytest

from tests.house.checks import docstrings
from tests.house.checks.source import Source, read

PART = '''"""Keys by their norm."""
class NormScore:
    """{doc}"""
    room = "score"
'''

ESSAY = '''"""Keys seen by the last queries.

Paper      Someone 2024, 2404.00000         Confidence   {confidence}
"""
'''


def test_docstrings() -> None:
    found = docstrings.violations(read())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "text", "word"),
    [
        ("ops/pool.py", "x = 1", "module"),
        ("ops/pool.py", '"""Pools."""\ndef average(x): ...', "average"),
        ("ops/pool.py", '"""Pools."""\nclass Pool: ...', "Pool"),
        ("score/norm.py", PART.format(doc="no full stop\n\n    Formula    |k|"), "sentence"),
        ("score/norm.py", PART.format(doc="The norm of the key."), "Formula"),
        ("recipes/snapkv.py", '"""Keys seen by the last queries."""', "no Paper"),
        ("recipes/snapkv.py", ESSAY.format(confidence="hearsay"), "hearsay"),
    ],
)
def test_violations_are_found(path: str, text: str, word: str) -> None:
    assert any(word in problem for problem in docstrings.violations([Source(path, text)]))


def test_the_template_passes() -> None:
    allowed = [
        Source("score/norm.py", PART.format(doc="The norm of the key.\n\n    Formula    −‖k‖")),
        Source("recipes/snapkv.py", ESSAY.format(confidence="official code")),
        Source("recipes/full.py", '"""Keeps everything.\n\nPaper      none\n"""'),
        Source("ops/__init__.py", ""),
        Source("ops/pool.py", '"""Pools."""\ndef _helper(x): ...'),
    ]
    assert docstrings.violations(allowed) == []
