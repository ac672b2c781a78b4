"""How long files and functions may be; what exceeds it stands in `EXCEPTIONS` with its reason, or is split.

Units   files in lines; parts, recipes and functions in lines of code (no docstrings, comments, blank lines)
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.house.checks.source import Function, Source, code_lines

FILE, PART, RECIPE, FUNCTION, ARGUMENTS, FLOW = 300, 60, 20, 50, 5, 150
PART_ROOMS = frozenset("observe score rescore allocate select act transform encode retrieve".split())


@dataclass(frozen=True, slots=True)
class Oversize:
    """`name` is a path, or path:qualified.function; `rule` says which size it exceeds."""

    rule: str
    name: str
    size: int
    limit: int

    def __str__(self) -> str:
        return f"{self.name}: {self.rule} {self.size}, at most {self.limit}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """One exception: `name` may hold *; `reason` says why splitting would read worse."""

    rule: str
    name: str
    reason: str

    def covers(self, big: Oversize) -> bool:
        return self.rule == big.rule and fnmatchcase(big.name, self.name)


EXCEPTIONS: tuple[Allowed, ...] = (
    Allowed(
        "arguments",
        "types/part.py:Select.select",
        "all a selection may look at; one caller, the river",
    ),
    Allowed("arguments", "select/*.py:*.select", "the contract of the room"),
    Allowed(
        "arguments", "ops/fast/*.py:*", "a compiled kernel takes its arrays one by one; it knows no classes"
    ),
)


def oversizes(sources: Iterable[Source]) -> list[Oversize]:
    """Everything above its size."""
    return [
        big for source in sources for big in (*_file(source), *_functions(source)) if big.size > big.limit
    ]


def violations(sources: Iterable[Source], exceptions: tuple[Allowed, ...] = EXCEPTIONS) -> list[str]:
    """Oversizes without an exception, and exceptions that nothing needs any more."""
    sources = list(sources)
    found = oversizes(sources)
    unexcused = [str(big) for big in found if not any(entry.covers(big) for entry in exceptions)]
    stale = [entry for entry in exceptions if not any(entry.covers(big) for big in found)]
    return unexcused + [f"exception no longer needed: {entry.rule} {entry.name}" for entry in stale]


def _file(source: Source) -> list[Oversize]:
    found = [Oversize("file", source.path, len(source.text.splitlines()), FILE)]
    if source.path == "flow.py":
        found.append(Oversize("flow", source.path, len(source.text.splitlines()), FLOW))
    is_init = source.path.endswith("__init__.py")
    if source.room in PART_ROOMS and not is_init:
        found.append(Oversize("part", source.path, code_lines(source), PART))
    if source.room == "recipes" and not is_init:
        found.append(Oversize("recipe", source.path, code_lines(source), RECIPE))
    return found


def _functions(source: Source) -> list[Oversize]:
    found = []
    for name, node in source.functions():
        place = f"{source.path}:{name}"
        found.append(Oversize("function", place, code_lines(source, node.lineno, node.end_lineno), FUNCTION))
        if not _is_command(node):
            found.append(Oversize("arguments", place, _positional(node), ARGUMENTS))
    return found


def _positional(node: Function) -> int:
    """Arguments that may be given by position, without self and cls."""
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_command(node: Function) -> bool:
    """A typer command: its parameters are options, given by name."""
    return any(
        ast.unparse(decorator).partition("(")[0].endswith(".command") for decorator in node.decorator_list
    )
