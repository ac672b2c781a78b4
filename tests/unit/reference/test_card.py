"""The accuracy table: merged rows, model card, and the marked place in a page."""

import json

import pytest

from keyvalise.reference import card, shape
from keyvalise.reference.tasks.words import vocabulary


def row(name, right, tokens=1024, kind="sparse"):
    return {
        "task": name,
        "kind": kind,
        "tokens": tokens,
        "documents": 200,
        "questions": 200,
        "right": right,
        "accuracy": right / 200,
        "low": 0.9,
        "high": 1.0,
    }


@pytest.fixture
def folder(tmp_path):
    shape.fresh_model(shape.config(len(vocabulary()), bos=1, eos=2, pad=3), seed=3).save_pretrained(tmp_path)
    return tmp_path


def test_rows_are_merged_and_the_card_shows_them(folder):
    card.save_rows(folder, [row("copy", 100), row("needle", 150)])
    card.save_rows(folder, [row("copy", 200), row("needle", 190, tokens=512)])
    rows = json.loads((folder / "heldout.json").read_text())
    assert [(one["task"], one["tokens"], one["right"]) for one in rows] == [
        ("needle", 512, 190),
        ("needle", 1024, 150),
        ("copy", 1024, 200),
    ]
    text = (folder / "README.md").read_text()
    assert "| copy | sparse | 1024 | 200 | 100.0% | 90.0% - 100.0% |" in text
    assert "1.62 M parameters" in text
    assert "`needle`: one fact about one name" in text


def test_a_page_keeps_what_stands_around_its_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{card.BEGIN}\nold\n{card.END}\nafter\n")
    for _ in range(2):
        card.write_table(page, [row("needle", 200)])
    text = page.read_text()
    assert text.startswith(f"before\n{card.BEGIN}\n| task |")
    assert text.endswith(f"{card.END}\nafter\n")
    assert "old" not in text
