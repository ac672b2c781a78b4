"""Share of the full cache's accuracy that one composition keeps at few bytes, on long documents, paired.

    python bench/targets.py --candidates    compositions on development seeds, the best first
    python bench/targets.py                 the chosen one on other seeds, then docs/results/targets.jsonl

The composition was chosen on the development seeds alone. A target is met when the lower end of the paired
95 % interval is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import wide

from keyvalise.bench import plan, statistics
from keyvalise.bench.results import Results, write_whole

LINES = wide.ROOT / "docs" / "results" / "targets.jsonl"
OUT = wide.ROOT / "results" / "targets"
DEVELOPMENT = plan.FIRST_SEED + 500_000
TOKENS, QUESTIONS, CANDIDATE_QUESTIONS = 2048, 170, 24
"""Of the documents; per task and kind of a report, and of a candidate."""

CHOSEN = "at prompt: keydiff > proportional(profile=retrieval, beta=1.005) > drop(recent=8) > int4"
CANDIDATES = (
    "keydiff > int4",
    "headkv > int4",
    "headkv(beta=1.005) > int4",
    "headkv(beta=1.005) > int2",
    "at prompt: keydiff > proportional(profile=retrieval, beta=1.005) > drop(recent=8) > int4",
    "at prompt: keydiff > proportional(profile=retrieval, beta=1.005) > drop(recent=8) > int2",
    "duo(sinks=4, recent=16) > int4",
    "duo(sinks=4, recent=16) > int2",
)


@dataclass(frozen=True)
class Target:
    """What is asked at a share on one kind of document: of the full cache's accuracy."""

    kind: str
    budget: str
    asked: float


TARGETS = (
    Target("sparse", "10%", 0.98),
    Target("sparse", "5%", 0.95),
    Target("dense", "10%", 0.93),
    Target("dense", "5%", 0.80),
)


@dataclass(frozen=True)
class Found:
    """What a composition kept of the full cache's accuracy, and the paired interval of it."""

    recipe: str
    kind: str
    n: int
    full: float
    kept: float
    low: float
    high: float
    share: float


def found(path: Path, kind: str, text: str) -> Found:
    """Of all documents of a kind on which recipe and full cache were measured."""
    results = [r for r in Results(path).known.values() if r.document["kind"] == kind]
    full = {str(r.document): r for r in results if r.recipe == plan.FULL}
    own = [r for r in results if r.recipe == text and not r.refused]
    base = [one for r in own for one in full[str(r.document)].right]
    right = [one for r in own for one in r.right]
    lost, whole = statistics.paired_loss(base, right), sum(base) / len(base)
    kept, low, high = (1 - loss / whole for loss in (lost.value, lost.high, lost.low))
    share = sum(r.share for r in own) / len(own)
    return Found(text, kind, len(right), whole, kept, low, min(high, 1 / whole), share)


def measure(recipes: Sequence[str], first_seed: int, per_task: int, path: Path) -> None:
    """Every recipe at the targets' shares, resumable."""
    documents = wide.documents(wide.TASKS, wide.KINDS, TOKENS, per_task, first_seed, 24)
    budgets = list(dict.fromkeys(target.budget for target in TARGETS))
    wide.run(documents, plan.texts(recipes, budgets), path, path.stem)


def main() -> int:
    """Candidates, or the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.candidates:
        path = options.out / "candidates.jsonl"
        measure(CANDIDATES, DEVELOPMENT, CANDIDATE_QUESTIONS, path)
        table = [found(path, t.kind, f"{recipe} @ {t.budget}") for t in TARGETS for recipe in CANDIDATES]
        for row in sorted(table, key=lambda row: -row.kept):
            print(f"{row.kind} {row.recipe}: {100 * row.kept:.1f} % of {100 * row.full:.1f} % (n = {row.n})")
        return 0
    path = options.out / "report.jsonl"
    measure([CHOSEN], plan.FIRST_SEED, QUESTIONS, path)
    lines = [
        {**asdict(found(path, target.kind, f"{CHOSEN} @ {target.budget}")), "asked": target.asked}
        for target in TARGETS
    ]
    write_whole(LINES, "".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        print(json.dumps(line))
    return 0


if __name__ == "__main__":
    sys.exit(main())
