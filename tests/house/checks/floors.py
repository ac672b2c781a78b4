"""Imports point down: the graph of the package, read from its files without running them.

    floor 0  types        floor 3  recipe recipes flow …        floor 6  api cli
    floor 1  ops          floor 4  host reference
    floor 2  observe …    floor 5  inspect train bench

Rooms on one floor are strangers, except where `NEIGHBOURS` says why not.
The catalogue's dotted paths are strings, hence data, hence not imports: it may name parts of every room.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tests.house.checks.source import Source

PACKAGE = "keyvalise"

FLOORS = {
    "types": 0,
    "ops": 1,
    **dict.fromkeys("observe score rescore allocate select act transform encode retrieve store".split(), 2),
    **dict.fromkeys(("recipe", "recipes", "flow", "decide", "confluence"), 3),
    **dict.fromkeys(("host", "reference"), 4),
    **dict.fromkeys(("inspect", "train", "bench"), 5),
    **dict.fromkeys(("api", "cli", "__main__"), 6),
}

NEIGHBOURS = {
    ("*", "observe"): "a part lists the observers it reads",
    ("recipes", "recipe"): "a published system is written in the recipe's own types",
    ("flow", "recipe"): "the river is handed its parts by the recipe",
    ("flow", "decide"): "one step of the river has a page of its own",
    ("decide", "recipe"): "stages come from the recipe",
    ("confluence", "recipe"): "stages come from the recipe",
    ("confluence", "decide"): "rivers that meet decide by the same steps",
    ("confluence", "flow"): "and settle in the same way",
    ("__main__", "cli"): "`python -m keyvalise` is the command line",
    ("cli", "api"): "commands use the names a user has",
}

ASKS_BY_NAME = {
    "recipe/catalogue.py": "the catalogue imports a part when its name is asked for",
    "__init__.py": "public names are imported when asked for",
}
"""Files that may import a module whose name is computed."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One import: `target` is the dotted module below the package, `line` where it stands."""

    source: Source
    target: str
    line: int
    is_for_types: bool

    @property
    def room(self) -> str:
        return self.target.split(".")[0] or "api"


def edges(sources: list[Source]) -> list[Edge]:
    """Every import of the package by itself, also inside functions and for type checkers only."""
    known = {source.module for source in sources}
    return [
        Edge(source, target, line, for_types)
        for source in sources
        for node, for_types in _imports(source.tree, False)
        for target, line in _targets(source, node, known)
        if target != source.module
    ]


def _imports(node: ast.AST, for_types: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom) or _is_import_call(child):
            yield child, for_types
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _imports(ast.Module(child.body, []), True)
            yield from _imports(ast.Module(child.orelse, []), for_types)
        else:
            yield from _imports(child, for_types)


def _is_import_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
        "import_module",
        "__import__",
    )


def _targets(source: Source, node: ast.AST, known: set[str]) -> Iterator[tuple[str, int]]:
    line = int(getattr(node, "lineno", 0))
    if isinstance(node, ast.Call):
        names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    elif isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    else:
        assert isinstance(node, ast.ImportFrom)
        base = _base(source, node)
        names = [f"{base}.{alias.name}" for alias in node.names]
    for name in names:
        if name == PACKAGE or name.startswith(PACKAGE + "."):
            yield _nearest(name.removeprefix(PACKAGE).lstrip("."), known), line


def _base(source: Source, node: ast.ImportFrom) -> str:
    """The absolute module an import names, relative dots resolved."""
    if not node.level:
        return node.module or ""
    here = [PACKAGE, *source.path.removesuffix(".py").split("/")]
    return ".".join([*here[: len(here) - node.level], *([node.module] if node.module else [])])


def _nearest(name: str, known: set[str]) -> str:
    """The longest prefix that is a module; a name the package defines itself counts as the package's face."""
    parts = name.split(".") if name else []
    while parts and ".".join(parts) not in known:
        if len(parts) == 1 and parts[0] in FLOORS:
            break
        parts.pop()
    return ".".join(parts)


def violations(sources: list[Source]) -> list[str]:
    """Imports that point up or to a stranger, rooms without a floor, computed imports where none may be."""
    rooms = sorted({source.room for source in sources if source.room not in FLOORS})
    found = [f"room {room} has no floor: give it one in FLOORS" for room in rooms]
    for edge in edges(sources):
        room = edge.source.room
        if room not in FLOORS or edge.room not in FLOORS or room == edge.room:
            continue
        if reason := _complaint(room, edge.room):
            found.append(f"{edge.source.path}:{edge.line} imports {edge.target or PACKAGE}: {reason}")
    return found + [problem for source in sources for problem in _computed(source)]


def _complaint(room: str, target: str) -> str | None:
    own, other = FLOORS[room], FLOORS[target]
    if other > own:
        return f"{target} (floor {other}) is above {room} (floor {own})"
    if own == other and not {("*", target), (room, target)} & NEIGHBOURS.keys():
        return f"{target} and {room} are strangers on floor {own}"
    return None


def _computed(source: Source) -> Iterator[str]:
    for node, _ in _imports(source.tree, False):
        is_named = isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        if isinstance(node, ast.Call) and not is_named and source.path not in ASKS_BY_NAME:
            yield f"{source.path}:{node.lineno} imports a module by a computed name"


def circles(sources: list[Source]) -> list[str]:
    """Import circles, each as a → b → a; imports for type checkers only do not count."""
    graph: dict[str, set[str]] = {source.module: set() for source in sources}
    for edge in edges(sources):
        if not edge.is_for_types and edge.target in graph and edge.source.module:
            graph[edge.source.module].add(edge.target)
    found, state = [], dict.fromkeys(graph, 0)

    def visit(module: str, trail: list[str]) -> None:
        state[module] = 1
        for target in sorted(graph[module]):
            if state[target] == 1:
                found.append(" → ".join([*trail[trail.index(target) :], target]))
            elif state[target] == 0:
                visit(target, [*trail, target])
        state[module] = 2

    for module in sorted(graph):
        if state[module] == 0:
            visit(module, [module])
    return found
