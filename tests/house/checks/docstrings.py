"""Docstrings: every public module, class and function has one; parts and recipes follow the template.

One sentence.

Head      text; heads are Shapes, Formula, Units, Needs, Reduces to, Raises, Differs, Paper, Confidence
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.checks.sizes import PART_ROOMS
from tests.house.checks.source import Function, Source

CONFIDENCES = ("official code", "paper", "reconstruction")
RECIPE_SECTIONS = ("Paper", "Confidence")


def violations(sources: list[Source]) -> list[str]:
    """Missing docstrings, and parts and recipes off the template."""
    return [
        f"{source.path}: {problem}"
        for source in sources
        for problem in (*_missing(source), *_parts(source), *_recipe(source))
    ]


def _missing(source: Source) -> Iterator[str]:
    """Public modules with content, classes and functions without a docstring."""
    if source.tree.body and not ast.get_docstring(source.tree):
        yield "the module has no docstring"
    for node in source.tree.body:
        is_public = isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_")
        if is_public and not ast.get_docstring(node):
            yield f"{node.name} has no docstring"


def _parts(source: Source) -> Iterator[str]:
    """A part is a class with a `room`; its docstring opens with one sentence and has sections."""
    if source.room not in PART_ROOMS:
        return
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef) and "room" in _fields(node):
            text = ast.get_docstring(node) or ""
            yield from (f"{node.name}: {problem}" for problem in _template(text))
            if not re.search(r"^\s*(Formula|Shapes)\b", text, re.MULTILINE):
                yield f"{node.name}: neither Shapes nor Formula in its docstring"


def _recipe(source: Source) -> Iterator[str]:
    """A recipe's essay is its module's docstring and says where the idea comes from."""
    if source.room != "recipes" or source.path.endswith("__init__.py"):
        return
    text = ast.get_docstring(source.tree) or ""
    yield from _template(text)
    sections = _sections(text)
    for head in RECIPE_SECTIONS:
        if head not in sections and not (
            head == "Confidence" and sections.get("Paper", "").startswith("none")
        ):
            yield f"no {head} in its docstring"
    confidence = sections.get("Confidence")
    if confidence is not None and not confidence.startswith(CONFIDENCES):
        yield f"Confidence is {confidence!r}, must begin with one of {', '.join(CONFIDENCES)}"


def _template(text: str) -> Iterator[str]:
    first = text.strip().split("\n\n")[0]
    if not first.rstrip().endswith((".", ":")):
        yield f"the docstring does not open with a sentence: {first[:60]!r}"


def _sections(text: str) -> dict[str, str]:
    """Head → its text; several heads may share a line when three spaces part them."""
    found = {}
    for line in text.splitlines():
        for piece in re.split(r"\s{3,}(?=Paper\s|Confidence\s)", line.strip()):
            if match := re.match(r"(Paper|Confidence)\s+(.+)", piece):
                found[match[1]] = match[2].strip()
    return found


def _fields(node: ast.ClassDef) -> set[str]:
    """Names assigned or annotated in the class body."""
    targets = [t for n in node.body if isinstance(n, ast.Assign) for t in n.targets]
    targets += [n.target for n in node.body if isinstance(n, ast.AnnAssign)]
    return {target.id for target in targets if isinstance(target, ast.Name)}
