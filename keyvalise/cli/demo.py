"""`keyvalise demo`: the main job, on the embedded model, with nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keyvalise.cli import inputs, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading

if TYPE_CHECKING:
    from keyvalise.bench.plan import Document

TOKENS, QUICK_TOKENS = 4096, 512
QUESTIONS, QUICK_QUESTIONS = 24, 6
RIGHT_ENOUGH = 0.90

RECIPES = (
    "streaming",
    "random",
    "knorm",
    "keydiff",
    "tova",
    "h2o",
    "snapkv",
    "pyramidkv",
    "adakv",
    "expected",
)
CODED = ("adakv > int4", "keydiff > int4", "kivi @ 25%")
BUDGETS = ("25%", "10%")
QUICK_RECIPES = ("streaming", "knorm", "snapkv > int4")


@app.command(epilog="Example: keyvalise demo --out report")
def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the report and the results.", metavar="DIR")
    ] = Path("keyvalise-demo"),
    tokens: Annotated[
        int | None, typer.Option("--tokens", help="Length of the document (default 4096).", metavar="N")
    ] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A short document and few recipes: seconds instead of a minute.")
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress a generated document in many ways, ask questions, and show what it cost and what it lost.

    The embedded model reads documents of 4,096 tokens once; the full cache and ten recipes at 25 % and 10 %
    of the bytes of a 16-bit cache answer the same questions. Prints a table and writes a report.
    """
    from keyvalise.bench.measure import Bench
    from keyvalise.bench.plan import FIRST_SEED, Document, Plan, Settings, texts
    from keyvalise.bench.results import Results
    from keyvalise.cli import measuring

    screen = Screen(json, quiet)
    results = Results(out / "results.jsonl", is_fresh=True)
    model, tokenizer = loading.model(loading.REFERENCE, device)
    length = tokens or (QUICK_TOKENS if quick else TOKENS)
    quick_one = Document("needle", "dense", length, FIRST_SEED, QUICK_QUESTIONS)
    documents = (quick_one,) if quick else choose(length, QUESTIONS)
    recipes = QUICK_RECIPES if quick else RECIPES
    settings = Settings(loading.REFERENCE, inputs.dtype(dtype, model), seed)
    plan = Plan(documents, texts([*recipes, *(() if quick else CODED)], BUDGETS), settings)
    asked = sum(len(document.generate().questions) for document in documents)
    screen.remark(
        f"{len(documents)} generated document(s) of {length:,} tokens, {asked} questions, "
        f"{len(plan.texts)} caches; the questions are never seen by the compression\n"
    )
    outcome = measuring.carry_out(Bench(model, tokenizer, settings), plan, results, screen)
    measuring.show(outcome, screen, None)


def choose(tokens: int, n_questions: int) -> tuple[Document, ...]:
    """Sparse and dense documents in turn, of tasks that the full cache masters, with enough questions."""
    from keyvalise.bench import plan

    kinds = [(kind, names) for kind in ("sparse", "dense") if (names := mastered(tokens, kind))] or [
        ("sparse", ["needle"])
    ]
    most = -(-n_questions * 2 // 3)
    found: list[plan.Document] = []
    left = n_questions
    while left > 0:
        n = len(found)
        kind, names = kinds[n % len(kinds)]
        name = names[n // len(kinds) % len(names)]
        found.append(plan.Document(name, kind, tokens, plan.FIRST_SEED + n, min(left, most)))
        left -= len(found[-1].generate().questions)
    return tuple(found)


def mastered(tokens: int, kind: str) -> list[str]:
    """Tasks with at least 90 % in documents of this kind and length, or the next longer one in the table."""
    from keyvalise.bench.heldout import rows

    table = [row for row in rows() if row["kind"] == kind and row["tokens"] >= tokens]
    nearest = min((row["tokens"] for row in table), default=None)
    return [row["task"] for row in table if row["tokens"] == nearest and row["accuracy"] >= RIGHT_ENOUGH]
