"""The wide table: every system at every share, on sparse and dense documents, question by question.

    python bench/wide.py [--recipes …] [--budgets …] [--tasks …] [--kinds …] [--shard 0/2] [--tokens 1024]
    python bench/wide.py --recipes random --oracles tova fastgen --out results/seen
    python bench/wide.py --gather

Documents are read in turns of task and kind, so that whatever stands in the results when a run is stopped
is balanced; the next run goes on there. Shards are processes for one machine each, or one core. `--gather`
writes one line per recipe, kind and task into docs/results/wide.jsonl, with a bit for every question, so that
any two recipes can be compared pair by pair; `make docs` makes docs/systems.md of it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

import keyvalise
from keyvalise.bench import plan
from keyvalise.bench.measure import Bench
from keyvalise.bench.results import Result, Results, write_whole
from keyvalise.recipe import catalogue
from keyvalise.recipe.object import Recipe

ROOT = Path(__file__).parents[1]
OUT = ROOT / "results" / "wide"
LINES = ROOT / "docs" / "results" / "wide.jsonl"
TASKS = ("needle", "multikey", "multiquery", "records", "copy", "override")
KINDS = ("sparse", "dense")
BUDGETS = ("2%", "5%", "10%", "25%", "50%")
COMPOSED = ("keydiff > int4", "keydiff > int2", "int4", "int2", "kivi")
ORACLE = "snapkv"
"""The recipe that has seen the question: its window is the question's end."""

PER_TASK, PER_DOCUMENT = 50, 8
"""Questions asked per task and kind, and at most of one document."""


def systems() -> tuple[str, ...]:
    """Every recipe of the catalogue that has stages, and some compositions."""
    return (*(name for name in catalogue.recipes() if Recipe.parse(name).stages), *COMPOSED)


def documents(
    tasks: Sequence[str],
    kinds: Sequence[str],
    tokens: int,
    per_task: int,
    first_seed: int = plan.FIRST_SEED,
    per_document: int = PER_DOCUMENT,
) -> list[plan.Document]:
    """Enough documents for `per_task` questions of every task and kind, in turns."""
    makers = [
        partial(plan.Document, task, kind, tokens, most_questions=per_document)
        for kind in kinds
        for task in tasks
    ]
    columns = [list(_enough(make, first_seed, per_task)) for make in makers]
    rows = itertools.zip_longest(*columns)
    return [document for row in rows for document in row if document is not None]


def _enough(make: Callable[..., plan.Document], first_seed: int, per_task: int) -> Iterator[plan.Document]:
    asked = 0
    for seed in itertools.count(first_seed):
        if asked >= per_task:
            return
        found = make(seed=seed)
        asked += len(found.generate().questions)
        yield found


def run(
    documents: Sequence[plan.Document], texts: Sequence[str], out: Path, label: str, **settings: bool
) -> None:
    """Measure what is not yet known, one line each."""
    model, tokenizer = keyvalise.reference()
    chosen = plan.Settings("reference", torch.float16, fit_windows=True, quick=True, **settings)
    made = plan.Plan(tuple(documents), tuple(texts), chosen)
    results = Results(out)
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(label, total=len(made))
        bar.advance(task, sum(made.key(*case) in results.known for case in made.cases()))
        for result in Bench(model, tokenizer, chosen).run(made, set(results.known)):
            results.add(result)
            bar.advance(task)


def gather(out: Path, lines: Path) -> None:
    """One line per recipe, kind and task: the documents that every recipe has read, in their order."""
    found: dict[str, dict[tuple[str, str, int], Result]] = {}
    for path in sorted(out.glob("*.jsonl")):
        for result in Results(path).known.values():
            seen = ", question seen" if result.settings["query_aware"] else ""
            place = (result.document["kind"], result.document["task"], int(result.document["seed"]))
            found.setdefault(result.recipe + seen, {})[place] = result
    common = sorted(set.intersection(*(set(places) for places in found.values())))
    written = [
        _line(recipe, *place, [places[one] for one in members])
        for recipe, places in found.items()
        for place, group in itertools.groupby(common, lambda one: one[:2])
        for members in [list(group)]
    ]
    write_whole(lines, "".join(json.dumps(line) + "\n" for line in written))


def _line(recipe: str, kind: str, task: str, results: list[Result]) -> dict[str, object]:
    known = [result for result in results if not result.refused]
    if not known:
        return {"recipe": recipe, "kind": kind, "task": task, "refused": results[0].refused}
    return {
        "recipe": recipe,
        "kind": kind,
        "task": task,
        "tokens": known[0].document["tokens"],
        "share": round(sum(result.share for result in known) / len(known), 5),
        "right": "".join(str(int(right)) for result in known for right in result.right),
    }


def main() -> int:
    """Run one shard, or gather."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=systems())
    parser.add_argument("--budgets", nargs="+", default=BUDGETS)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--questions", type=int, default=PER_TASK, help="per task and kind")
    parser.add_argument("--oracles", nargs="*", default=[ORACLE], help="recipes that also see the questions")
    parser.add_argument("--shard", default="0/1", help="which of how many, such as 0/2")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--gather", action="store_true")
    options = parser.parse_args()
    if options.gather:
        gather(options.out, LINES)
        return 0
    torch.set_num_threads(1)
    number, count = map(int, options.shard.split("/"))
    asked = documents(options.tasks, options.kinds, options.tokens, options.questions)[number::count]
    path = options.out / f"{number}-of-{count}.jsonl"
    run(asked, plan.texts(options.recipes, options.budgets), path, "unseen questions")
    if options.oracles:
        run(asked, plan.texts(options.oracles, options.budgets), path, "seen questions", query_aware=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
