"""`keyvalise bench`: recipes × budgets × documents, as JSON lines and a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from keyvalise.cli import inputs, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading
from keyvalise.types.errors import InputError

EXAMPLE = (
    "Example: keyvalise bench --recipes snapkv,keydiff,kivi --budgets 25%,10% --tasks needle --out results"
)


@app.command(epilog=EXAMPLE)
def bench(
    recipes: Annotated[str, typer.Option("--recipes", help="Recipes, parted by commas; full is implied.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for results and report.", metavar="DIR")],
    budgets: Annotated[str, typer.Option("--budgets", help="Budgets: 25%,10%, 128tok, 2MiB.")] = "25%,10%",
    tasks: Annotated[str, typer.Option("--tasks", help="Tasks of the generator, or all.")] = "needle",
    kinds: Annotated[str, typer.Option("--kinds", help="Kinds of document: sparse, dense.")] = "sparse",
    tokens: Annotated[str, typer.Option("--tokens", "--lengths", help="Lengths of the documents.")] = "1024",
    documents: Annotated[int, typer.Option("--documents", min=1, help="Per task, kind and length.")] = 8,
    seeds: Annotated[str, typer.Option("--seeds", help="Of the documents; replaces --documents.")] = "",
    questions: Annotated[int, typer.Option("--questions", min=1, help="Most questions per document.")] = 8,
    model: options.Model = "reference",
    dtype: options.Dtype = "auto",
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    prefill_chunk: options.PrefillChunk = None,
    max_new_tokens: options.MaxNewTokens = 12,
    query_aware: options.QueryAware = False,
    fit_windows: options.FitWindows = False,
    quick: options.Quick = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure recipes: bytes, right answers, attention-output error, speed.

    The compressed text is the document alone: no task line, no instruction, no question. One prefill per
    document serves all recipes. An interrupted run goes on where it stopped when the command is given again.
    """
    from keyvalise.bench import plan
    from keyvalise.bench.measure import Bench
    from keyvalise.bench.results import Results
    from keyvalise.cli import measuring
    from keyvalise.reference import tasks as known

    screen = Screen(json, quiet)
    if quick and model != loading.REFERENCE:
        raise InputError("--quick judges answers token by token, which suits the embedded model alone")
    chosen = plan.texts(listed(recipes), listed(budgets))
    numbers = whole_numbers("--seeds", seeds) or range(plan.FIRST_SEED, plan.FIRST_SEED + documents)
    names = known.names() if tasks.strip() == "all" else listed(tasks)
    asked = plan.documents(names, listed(kinds), whole_numbers("--tokens", tokens), numbers, questions)
    results = Results(out / "results.jsonl")
    loaded = loading.model(model, device)
    held = inputs.dtype(dtype, loaded[0])
    settings = plan.Settings(
        model, held, seed, prefill_chunk, query_aware, fit_windows, quick, max_new_tokens
    )
    made = plan.Plan(asked, chosen, settings)
    machine = Bench(*loaded, settings, is_exact=model == loading.REFERENCE)
    outcome = measuring.carry_out(machine, made, results, screen)
    measuring.show(outcome, screen, None if model == loading.REFERENCE else model)


def listed(text: str) -> list[str]:
    """Words parted by commas; a comma inside parentheses belongs to its recipe.

    Raises   InputError where there is none
    """
    found, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    words = [word.strip() for word in found if word.strip()]
    if not words:
        raise InputError(f"cannot read the list {text!r}; part its words by commas")
    return words


def whole_numbers(option: str, text: str) -> Sequence[int]:
    """Numbers parted by commas; none for an empty text."""
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"{option} takes whole numbers parted by commas, got {text!r}") from None
