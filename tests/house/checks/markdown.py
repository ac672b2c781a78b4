"""Fenced code blocks of the documentation."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is where its code begins."""

    file: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def blocks(file: Path) -> Iterator[Block]:
    """The blocks of one file, in order; nothing where the file is missing."""
    text = file.read_text("utf-8") if file.is_file() else ""
    for match in FENCE.finditer(text):
        yield Block(file.name, text.count("\n", 0, match.start()) + 2, match[1], match[2])


def commands(block: Block) -> list[list[str]]:
    """A shell block's commands as words: continuations joined; prompt, comment and rest of a pipe dropped."""
    text = block.code.replace("\\\n", " ")
    words = (shlex.split(line.removeprefix("$ "), comments=True) for line in text.splitlines())
    return [_first_of_pipe(line) for line in words if line]


def _first_of_pipe(words: list[str]) -> list[str]:
    ends = [words.index(mark) for mark in ("|", ">", "&&", ";") if mark in words]
    return words[: min(ends, default=len(words))]
