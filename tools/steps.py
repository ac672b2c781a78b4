"""The table of what a step of decoding costs: from the benchmarks' JSON lines into README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LINES = Path(__file__).parents[1] / "bench" / "results" / "decode.jsonl"
CASE = "coded-bf16"
BEGIN, END = "<!-- steps: begin -->", "<!-- steps: end -->"
STOCK = "`DynamicCache` with sdpa"


def found() -> dict[str, Any] | None:
    """The case's last line, or nothing where it has not been measured."""
    lines = LINES.read_text("utf-8").splitlines() if LINES.is_file() else []
    cases = [json.loads(line) for line in lines]
    return next((case for case in reversed(cases) if case["case"] == CASE), None)


def table(case: dict[str, Any]) -> list[str]:
    """What it was measured on, and one line per cache."""
    machine, tokens, n = case["machine"], case["settings"]["tokens"], case["sides"]["full"]["n"]
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    head = (
        f"One large layer at {tokens:,} tokens in bfloat16 (32 query heads over 8 kv heads of 128), one "
        f"token more; medians of {n} alternating steps, {threads} of an "
        f"{machine['processor'].replace('(R)', '')}. Everything else: [figures](docs/figures.md)."
    )
    lines = [head, "", "| cache | ms a step | of stock's time | MiB held |", "|---|---|---|---|"]
    for name, side in case["sides"].items():
        cache = STOCK if name == "stock" else f"`{name}`"
        ms, ratio, size = side["median_ms"], 100 * side["ratio"], side["bytes"] / 2**20
        lines.append(f"| {cache} | {ms:.0f} | {ratio:.1f} % | {size:.0f} |")
    return lines


def readme(text: str) -> str:
    """README with this table brought up to date."""
    case = found()
    before, rest = text.split(BEGIN)
    return "\n".join([before + BEGIN, *([] if case is None else table(case)), END]) + rest.split(END)[1]
