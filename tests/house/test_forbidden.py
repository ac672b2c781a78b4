"""The tree speaks of the project alone, and holds no pickle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.checks import forbidden
from tests.house.checks.source import ROOT


def test_nothing_forbidden_in_the_tree() -> None:
    found = forbidden.violations(ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.md", f"see /{'work'}/x"),
        ("a.md", "pip from https://pypi.org/simple"),
        ("a.py", "# done in an earlier session\n"),
        ("a.py", f"x = '/{'root'}/x'\n"),
        ("a.md", "closes issue #12"),
        ("a.py", "import pickle\n"),
        ("a.py", "from joblib import dump\n"),
        ("a.py", "torch.save(x, path)\n"),
        ("a.py", "torch.load(path)\n"),
        ("a.py", "torch.load(path, weights_only=False)\n"),
        ("a.py", "torch.load(path, weights_only=is_safe)\n"),
        ("a.py", "torch.save(x, path, weights_only=True)\n"),
        ("a.py", "read = torch.load\n"),
        ("a.py", "np.load(path, allow_pickle=True)\n"),
    ],
)
def test_violations_are_found(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    assert len(forbidden.violations(tmp_path)) == 1


def test_ordinary_words_pass(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '@pytest.fixture(scope="session")\ndef model(): ...\n# frameworks/, ~/work, an agent\n'
        "np.load(path, allow_pickle=False)\ncache.load(path)\ntorch.load(path, weights_only=True)\n",
        "utf-8",
    )
    assert forbidden.violations(tmp_path) == []
