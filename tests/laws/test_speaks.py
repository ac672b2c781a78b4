"""speaks: what is refused is refused in a sentence that names the field, the value and what would be allowed.

Every place below the command line that raises an error of the tree is reached by a row of `refusals`.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keyvalise
from keyvalise.recipe import catalogue, words
from keyvalise.types import errors
from keyvalise.types.quantity import Share
from tests.support import refusals

HOME = Path(keyvalise.__file__).parent
ROOMS = ("types", "recipe", "store", "encode", "score", "select", "allocate", "act", "host")
TREE = {name for name, kind in vars(errors).items() if getattr(kind, "__module__", "") == errors.__name__}


def field_rows() -> Iterator[Any]:
    """(part, word of the field, a value outside its range) for every argument of every part."""
    for name in keyvalise.parts():
        for field in words.fields(catalogue.part(name)):
            for value in outside(field):
                yield pytest.param(name, field, value, id=f"{name}-{field.name}-{value}")


def outside(field: dataclasses.Field[Any]) -> Iterator[Any]:
    """Values that a field refuses: beyond its bounds, of another kind, not among its choices."""
    meta = field.metadata
    if meta.get("choices"):
        yield from ("nonsense", -3)
        return
    if isinstance(field.default, str):
        yield -3
        return
    yield "nonsense"
    if meta.get("low") is not None:
        yield meta["low"] - 1
    if meta.get("high") is not None:
        yield meta["high"] + 1
    if "Amount" in str(field.type):
        yield Share(101)
    elif isinstance(field.default, int) and not isinstance(field.default, bool):
        yield from (2.5, Share(10))


@pytest.mark.parametrize(("name", "field", "value"), list(field_rows()))
def test_every_violated_constraint_names_field_value_and_range(
    name: str, field: dataclasses.Field[Any], value: Any
) -> None:
    word = words.word(field)
    with pytest.raises(errors.BadArgument) as caught:
        words.make(name, [], {word: value})
    said = str(caught.value)
    assert said.startswith(f"{name}: {word}={value!r} is not allowed; {word} must be ")
    meta = field.metadata
    limits = meta.get("choices") or [x for x in (meta.get("low"), meta.get("high")) if x is not None]
    assert all(str(limit) in said for limit in limits)


FLAT = [(kind, call, said) for kind, rows in refusals.ROWS.items() for call, said in rows]


@functools.cache
def outcome(i: int) -> BaseException | None:
    """What row i raised."""
    try:
        FLAT[i][1]()
    except Exception as error:
        return error
    return None


@pytest.mark.parametrize("i", range(len(FLAT)), ids=lambda i: FLAT[i][2][:40])
def test_a_refusal_says_what_is_wrong_and_what_to_do(i: int) -> None:
    error = outcome(i)
    assert isinstance(error, FLAT[i][0]), error
    assert isinstance(error, errors.KeyvaliseError)
    assert FLAT[i][2] in str(error)
    assert "\n" not in str(error)


def test_every_message_has_a_row() -> None:
    reached = set()
    for i in range(len(FLAT)):
        error = outcome(i)
        reached |= {
            (frame.filename, frame.lineno) for frame in traceback.extract_tb(error and error.__traceback__)
        }
    words_of = {str(path): path for room in ROOMS for path in (HOME / room).rglob("*.py")}
    silent = []
    for name, path in words_of.items():
        for begin, end, text in raises(path):
            if not any(file == name and line and begin <= line <= end for file, line in reached):
                silent.append(f"{path.relative_to(HOME)}:{begin}: {text}")
    fields = {"types/argument.py", "recipe/words.py"}  # reached by every row of `field_rows`
    silent = [line for line in silent if not (line.split(":")[0] in fields and "BadArgument" in line)]
    assert not silent, "no row reaches\n" + "\n".join(silent)


def raises(path: Path) -> Iterator[tuple[int, int, str]]:
    """(first line, last line, text) of every statement that raises a new error of the tree."""
    source = path.read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            made = node.exc.func
            if isinstance(made, ast.Name) and made.id in TREE:
                yield node.lineno, node.end_lineno or node.lineno, ast.unparse(node)[:90]


def test_the_tree_is_drawn_whole() -> None:
    assert all(name in (errors.__doc__ or "") for name in TREE)
    assert all(issubclass(getattr(errors, name), errors.KeyvaliseError) for name in TREE)
