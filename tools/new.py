"""`make new KIND=score NAME=novelty`: a part or recipe from a neighbour, its catalogue line, its first test.

The neighbour's code stays, so the new file fits today's protocols; its docstrings give way to the template.
The new test fails until somebody writes what the newcomer reduces to. Nothing that exists is overwritten.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CATALOGUE = "keyvalise/recipe/catalogue.py"

NEIGHBOURS = {
    "recipe": "keyvalise/recipes/knorm.py",
    "score": "keyvalise/score/keydiff.py",
    "rescore": "keyvalise/score/layer.py",
    "allocate": "keyvalise/allocate/uniform.py",
    "select": "keyvalise/select/top.py",
    "act": "keyvalise/act/drop.py",
    "transform": "keyvalise/transform/hadamard.py",
    "encode": "keyvalise/encode/kivi.py",
}

TEMPLATE = '''"""One sentence: what it computes, in the field's words

{indent}Shapes     every tensor in and out, with axis letters and dtype
{indent}Formula    the mathematics, every symbol tied to an argument
{indent}Units      tokens, bytes, seconds               Cost        time and transient bytes, in axis letters
{indent}Needs      what it must be given                Phase       prompt, decode or both
{indent}Reduces to the simpler thing it becomes, and when
{indent}Raises     which error for which input
{indent}Differs    from the paper: what and why
{indent}Paper      authors year, arXiv id               Confidence  official code | paper | reconstruction
{indent}"""'''

TEST = '''"""What {name} does, on tensors small enough to check by hand."""

from __future__ import annotations

import pytest


def test_reduces_to_the_simpler_thing() -> None:
    pytest.fail("write what {name} reduces to, and when")
'''


def newcomer(neighbour: str, kind: str, old: str, new: str) -> str:
    """The neighbour's text under a new name, its own docstrings replaced by the template."""
    tree = ast.parse(neighbour)
    described = [node for node in (tree, *tree.body) if isinstance(node, ast.Module | ast.ClassDef)]
    lines = neighbour.splitlines()
    for node in sorted(described, key=lambda node: -node.body[0].lineno):
        if ast.get_docstring(node) is None:
            continue
        text, is_module = node.body[0], isinstance(node, ast.Module)
        indent = "" if is_module else "    "
        full = TEMPLATE.format(indent=indent)
        short = f'"""What {new} is, in one line"""'
        is_essay = is_module == (kind == "recipe")
        lines[text.lineno - 1 : text.end_lineno] = (indent + (full if is_essay else short)).splitlines()
    code = "\n".join(lines) + "\n"
    code = code.replace(_camel(old) + kind.capitalize(), _camel(new) + kind.capitalize())
    return re.sub(rf'"{old}"', f'"{new}"', code)


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def with_line(catalogue: str, kind: str, old: str, new: str) -> str:
    """The catalogue's text with the neighbour's line repeated below it under the new name."""
    mark = "," if kind == "recipe" else ":"
    lines = catalogue.splitlines(keepends=True)
    found = [i for i, line in enumerate(lines) if re.match(rf'\s+"{old}"{mark}', line)]
    if not found:
        raise SystemExit(f"no line for {old} in {CATALOGUE}")
    copy = lines[found[0]].replace(_camel(old), _camel(new))
    lines.insert(found[0] + 1, re.sub(rf"\b{old}\b", new, copy))
    return "".join(lines)


def create(root: Path, kind: str, name: str) -> list[Path]:
    """Write everything below `root`, or nothing where something stands in the way."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SystemExit(f"a name is lower-case letters, digits and underscores, got {name!r}")
    near = root / NEIGHBOURS[kind]
    room, old = near.parent.name, near.stem
    texts = {
        near.with_name(f"{name}.py"): newcomer(near.read_text("utf-8"), kind, old, name),
        root / "tests" / "unit" / room / f"test_{name}.py": TEST.format(name=name),
    }
    if taken := [str(path.relative_to(root)) for path in texts if path.exists()]:
        raise SystemExit(f"already there: {', '.join(taken)}")
    texts[root / CATALOGUE] = with_line((root / CATALOGUE).read_text("utf-8"), kind, old, name)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(texts)


def main(arguments: list[str]) -> None:
    """Read KIND and NAME and say what was written."""
    parser = argparse.ArgumentParser(prog="make new", description="A new part or recipe from a template.")
    parser.add_argument("kind", choices=tuple(NEIGHBOURS))
    parser.add_argument("name")
    given = parser.parse_args(arguments)
    for path in create(ROOT, given.kind, given.name):
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
