"""What README and docs show is true: Python blocks run, commands and make targets exist as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.checks import markdown
from tests.house.checks.source import ROOT

FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for file in FILES for block in markdown.blocks(file)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
SHELL = [
    (block, words)
    for block in BLOCKS
    if block.language in ("bash", "sh", "console")
    for words in markdown.commands(block)
]

QUICK = ("recipes", "cite")
"""Commands that are run as they stand; of the others only the help is read."""

COMMAND_LINE = [sys.executable, "-c", "from keyvalise.cli import main; main()"]
PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "200"}


def keyvalise(*arguments: str, cwd: Path) -> str:
    """Run the command line in a process of its own and return what it printed."""
    env = os.environ | PLAIN | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*COMMAND_LINE, *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"keyvalise {' '.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_blocks_run(block: markdown.Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile("\n" * (block.line - 1) + block.code, block.file, "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize(("block", "words"), SHELL, ids=lambda value: str(value)[:60])
def test_commands_exist(block: markdown.Block, words: list[str], tmp_path: Path) -> None:
    if words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert [word for word in words[1:] if "=" not in word and word not in targets] == []
    elif words[0] == "keyvalise" and words[1:2] and words[1] in QUICK:
        assert keyvalise(*words[1:], cwd=tmp_path)
    elif words[0] == "keyvalise":
        command = [word for word in words[1:2] if not word.startswith("-")]
        offered = keyvalise(*command, "--help", cwd=tmp_path)
        options = [word.partition("=")[0] for word in words if word.startswith("--")]
        assert [option for option in options if not re.search(rf"{option}\b", offered)] == []
    else:
        assert words[0] in ("git", "cd", "pip", "python"), f"{block}: nobody checks {words[0]!r}"


def test_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# x\n\n```python\na = 1\n```\n\n```bash\n$ keyvalise demo \\\n  --json | head  # c\nmake test\n```\n"
    )
    first, second = markdown.blocks(page)
    assert (first.line, first.language, first.code) == (4, "python", "a = 1\n")
    assert markdown.commands(second) == [["keyvalise", "demo", "--json"], ["make", "test"]]
