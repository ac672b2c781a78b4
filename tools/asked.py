"""The section of docs/systems.md on what is kept of the tokens that are asked for."""

from __future__ import annotations

import json
from pathlib import Path

LINES = Path(__file__).parents[1] / "docs" / "results" / "asked.jsonl"
BASE = "random"
HEAD = """
## What is kept of the answers

What is kept of the tokens that answer a question, in percent: means over {n} questions about documents of
1,024 tokens, over all kv heads, and over those of layer {layer}, whose heads find what is asked
(`keyvalise profile`). A system that keeps less of them than `{base}` ranks them below the rest. *Seen* is
the document compressed together with its question. Measured by `python bench/asked.py`.
"""
COLUMNS = (
    "of all tokens",
    "of the asked",
    "where it is found",
    "seen: of the asked",
    "seen: where it is found",
)


def section() -> list[str]:
    """Most kept first; nothing before it was measured."""
    if not LINES.is_file():
        return []
    lines = [json.loads(line) for line in LINES.read_text("utf-8").splitlines()]
    blind, seeing = (
        {line["recipe"]: line for line in lines if line["seen"] is seen} for seen in (False, True)
    )
    some = next(iter(blind.values()))
    table = [HEAD.format(n=some["n"], layer=some["layer"], base=BASE)]
    table += ["| recipe | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for recipe, own in sorted(blind.items(), key=lambda item: -item[1]["retrieved"]):
        seen = seeing.get(recipe, {})
        numbers = (own["tokens"], own["asked"], own["retrieved"], seen.get("asked"), seen.get("retrieved"))
        cells = ["–" if x is None else f"{100 * x:.0f}" for x in numbers]
        table.append(f"| `{recipe}` | {' | '.join(cells)} |")
    return table
