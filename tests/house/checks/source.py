"""The package as a set of parsed files: what every house check walks over."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "keyvalise"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package, `path` relative to the package: score/window.py."""

    path: str
    text: str

    @property
    def module(self) -> str:
        """Dotted name below the package, empty for its own __init__: score.window."""
        parts = self.path.removesuffix(".py").split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """First folder, or the file's own name: score, flow, api; `api` for the package's __init__."""
        return self.module.split(".")[0] or "api"

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """(qualified name, node) of every function and method, nested ones included."""
        yield from _functions(self.tree, "")


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        name = f"{prefix}{child.name}" if isinstance(child, Function | ast.ClassDef) else prefix
        if isinstance(child, Function):
            yield name, child
        inner = f"{name}." if isinstance(child, Function | ast.ClassDef) else prefix
        yield from _functions(child, inner)


def read(package: Path = PACKAGE) -> list[Source]:
    """Every Python file below `package`, sorted by path."""
    files = sorted(package.rglob("*.py"))
    return [Source(file.relative_to(package).as_posix(), file.read_text("utf-8")) for file in files]


def docstring_lines(tree: ast.AST) -> set[int]:
    """Line numbers that belong to docstrings of the module, its classes and functions."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | Function)
            and ast.get_docstring(node, clean=False) is not None
        ):
            first = node.body[0]
            lines |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def code_lines(source: Source, first: int = 1, last: int | None = None) -> int:
    """Lines that are neither blank nor docstring nor comment alone, between `first` and `last` (1-based)."""
    skipped = docstring_lines(source.tree)
    lines = enumerate(source.text.splitlines(), 1)
    return sum(
        1
        for number, line in lines
        if first <= number <= (last or number)
        and number not in skipped
        and line.strip()
        and line.strip()[0] != "#"
    )
