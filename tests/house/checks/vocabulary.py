"""Words stay in their rooms: below the host nobody has heard of transformers, and parts open no files.

Names, attributes, arguments, imports and strings that are names count; docstrings and comments do not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.house.checks.floors import FLOORS
from tests.house.checks.source import Source

HOST_FLOOR = FLOORS["host"]


@dataclass(frozen=True)
class Word:
    """`pattern` is searched in dotted names; `allowed` says in which files it may stand."""

    pattern: str
    allowed: Callable[[Source], bool]
    where: str


FILES = (
    "store/file.py",
    "store/spill.py",
    "store/remote.py",
    "store/asset.py",
    "store/profile.py",
    "store/tiers/directory.py",
)
"""The modules of the store that open files."""


def _from_host_up(source: Source) -> bool:
    return FLOORS.get(source.room, HOST_FLOOR) >= HOST_FLOOR


def _files(source: Source) -> bool:
    return _from_host_up(source) or source.path in FILES


def _devices(source: Source) -> bool:
    return source.room in ("host", "train", "bench") or source.path.startswith(("ops/fast/", "store/tiers"))


WORDS = (
    Word(r"\btransformers\b", _from_host_up, "from floor 4 up"),
    Word(r"past_key_values|layer_idx", _from_host_up, "from floor 4 up"),
    Word(r"(?:\b|_)tokenizers?(?:\b|_)", _from_host_up, "from floor 4 up"),
    Word(
        r"^open$|^(?:io|os)\.open$|\.open$|^pathlib\b|^os\.path\b|^Path$",
        _files,
        f"{', '.join(FILES)}, floor 4 up",
    ),
    Word(r"^torch\.cuda\b", _devices, "ops/fast, store/tiers.py, host, train, bench"),
)


def violations(sources: list[Source]) -> list[str]:
    """Every word outside its rooms."""
    return [
        f"{source.path}:{line} says {name!r}, which belongs to {word.where}"
        for source in sources
        for name, line in sorted(set(_names(source.tree)), key=lambda pair: pair[1])
        for word in WORDS
        if re.search(word.pattern, name) and not word.allowed(source)
    ]


def _names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        line = int(getattr(node, "lineno", 0))
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name, line
            case ast.Attribute():
                yield _dotted(node), line
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, line
            case ast.Import(names=names):
                yield from ((alias.name, line) for alias in names)
            case ast.ImportFrom(module=module, names=names):
                yield from ((f"{module or ''}.{alias.name}", line) for alias in names)
            case ast.Constant(value=str(text)) if re.fullmatch(r"[A-Za-z_][\w.]*", text):
                yield text, line


def _dotted(node: ast.expr) -> str:
    """a.b.c as text; whatever is not a name becomes `_`."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "_"
