"""What must stand nowhere: paths of one machine, hosts of registries, talk of how it was made, pickles.

This file and its test are the only ones that spell these words, so both are left out.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

OWN = ("tests/house/checks/forbidden.py", "tests/house/test_forbidden.py")
NOT_TEXT = (".safetensors", ".png", ".ico", ".woff2", ".npz")

WORDS = {
    "a path of one machine": r"(?<![\w.])/(?:work|root|home|Users|opt/wheels)/",
    "a registry's host": r"pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian|download\.pytorch",
    "talk of how it was made": (
        r"(?i)(?<![\w\"'.-])(?:(?:this|previous|next|earlier|later|the|a|my|our)\s+sessions?|sub-?agents?|CEO)\b"
        r"|(?i:\b(?:anthropic|claude|chatgpt|copilot|openai codex)\b)|\bissues? #?\d+\b|\bas an AI\b"
    ),
}

PICKLES = frozenset({"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"})


def tree(root: Path) -> list[Path]:
    """Files under version control or about to be; all files where there is no git."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        return sorted(path for path in root.rglob("*") if path.is_file())
    return sorted(path for name in listed.stdout.split("\0") if name and (path := root / name).is_file())


def violations(root: Path) -> list[str]:
    """Every forbidden word and every pickle below `root`."""
    found = []
    for path in tree(root):
        name = path.relative_to(root).as_posix()
        if name in OWN or path.suffix in NOT_TEXT:
            continue
        text = path.read_text("utf-8", errors="replace")
        problems = [*_words(text), *(_pickles(text) if path.suffix == ".py" else ())]
        found += [f"{name}:{line}: {problem}" for line, problem in problems]
    return found


def _words(text: str) -> Iterator[tuple[int, str]]:
    for kind, pattern in WORDS.items():
        for match in re.finditer(pattern, text):
            yield text.count("\n", 0, match.start()) + 1, f"{kind}: {match[0]!r}"


def _pickles(text: str) -> Iterator[tuple[int, str]]:
    """Imports of picklers, torch.save, torch.load of more than weights, and arrays that may hold objects."""
    tree = ast.parse(text)
    careful = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call) and _only_weights(node)}
    for node in ast.walk(tree):
        line = int(getattr(node, "lineno", 0))
        match node:
            case ast.Import(names=names) if PICKLES & {alias.name.split(".")[0] for alias in names}:
                yield line, "imports a pickler"
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLES:
                yield line, "imports a pickler"
            case ast.Attribute(value=ast.Name(id="torch"), attr="save" | "load") if id(node) not in careful:
                yield line, f"torch.{node.attr} is a pickle"
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                yield int(node.value.lineno), "allow_pickle=True"


def _only_weights(call: ast.Call) -> bool:
    """Whether it is a torch.load that accepts nothing but tensors, numbers and containers."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return ast.unparse(call.func) == "torch.load" and given.get("weights_only") == "True"
