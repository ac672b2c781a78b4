"""`make new` writes a file, a catalogue line and a test, or nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tools import new

PART = '''"""The length of keys."""

from dataclasses import dataclass


@dataclass(frozen=True)
class KeydiffScore:
    """Short keys matter.

    Formula    −‖k‖
    """

    name = "keydiff"

    def score(self):
        """Kept."""
        return KeydiffScore()
'''

CATALOGUE = (
    'PARTS = {\n    "mean": "score.mean.MeanRescore",\n    "keydiff": "score.keydiff.KeydiffScore",\n}\n'
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with one part and a catalogue."""
    for path, text in ((new.NEIGHBOURS["score"], PART), (new.CATALOGUE, CATALOGUE)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    return tmp_path


def test_a_part_is_written_with_its_line_and_test(root: Path) -> None:
    part, test, catalogue = new.create(root, "score", "key_age")
    text = part.read_text("utf-8")
    assert part == root / "keyvalise" / "score" / "key_age.py"
    assert "class KeyAgeScore:" in text and 'name = "key_age"' in text and "Confidence" in text
    assert "Short keys" not in text and "keydiff" not in text.lower()
    assert '"""Kept."""' in text
    ast.parse(text)
    assert "pytest.fail" in test.read_text("utf-8")
    assert '    "key_age": "score.key_age.KeyAgeScore",\n}' in catalogue.read_text("utf-8")


@pytest.mark.parametrize(("name", "word"), [("keydiff", "already there"), ("Key-Age", "lower-case")])
def test_nothing_is_overwritten(root: Path, name: str, word: str) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*.py")}
    with pytest.raises(SystemExit, match=word):
        new.create(root, "score", name)
    assert {path: path.read_bytes() for path in root.rglob("*.py")} == before


def test_a_catalogue_without_the_neighbour_is_said(root: Path) -> None:
    (root / new.CATALOGUE).write_text("PARTS = {}\n", "utf-8")
    with pytest.raises(SystemExit, match="no line for keydiff"):
        new.create(root, "score", "key_age")


@pytest.mark.usefixtures("needs_cli")
def test_every_neighbour_exists() -> None:
    missing = [path for path in new.NEIGHBOURS.values() if not (new.ROOT / path).is_file()]
    assert not missing, missing


def test_a_recipe_gets_its_line_in_the_list_of_recipes() -> None:
    catalogue = 'PARTS = {\n    "knorm": "score.norm.NormScore",\n}\nRECIPES = (\n    "knorm",\n)\n'
    assert new.with_line(catalogue, "recipe", "knorm", "elastic").endswith(
        '(\n    "knorm",\n    "elastic",\n)\n'
    )
