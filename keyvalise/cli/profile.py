"""`keyvalise profile`: measure what a model's heads do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keyvalise.cli import options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading

BEST = 3
"""Heads shown per measure."""


@app.command(epilog="Example: keyvalise profile --model reference --needles 100 --out profile")
def profile(
    model: options.Model = loading.REFERENCE,
    needles: Annotated[int, typer.Option(min=1, help="Needles to ask for.", metavar="N")] = 50,
    tokens: Annotated[int, typer.Option(min=128, help="Length of the documents.", metavar="N")] = 1024,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for assets and map; by default where recipes look for this model's.", metavar="DIR"
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a model's heads: which retrieve, echo, induce, stream, or rest on the first token.

    The text is generated. The scores are kept as assets, one per measure, that budgets such as headkv, razor
    or compresskv name; and drawn as maps. Beside them lies which tokens are special and which punctuation,
    for fastgen.
    """
    screen = Screen(json, quiet)
    with screen.status("loading"):
        loaded = loading.model(model, device)
        from keyvalise.inspect import classes
        from keyvalise.inspect import map as maps
        from keyvalise.inspect import profile as profiles
    with screen.progress(needles, "asking") as bar:
        scores, facts = profiles.measure(
            *loaded, tokens=tokens, n=needles, seed=seed, progress=lambda: bar.advance(bar.task_ids[0])
        )
    folder = profiles.save(loaded[0], scores, facts, out)
    classes.save(*loaded, folder)
    maps.write(folder / "heads.html", scores, f"Heads of {model}")
    if json:
        found = {name: values.tolist() for name, values in scores.items()}
        screen.document({"model": model, **facts, "folder": str(folder.resolve()), "scores": found})
    rows = [[name, *best(values.tolist())] for name, values in scores.items()]
    screen.table(["measure", *(f"{i + 1}." for i in range(BEST))], rows)
    screen.remark(f"{facts['right']} of {facts['needles']} needles answered; the others do not count")
    screen.result(str(folder.resolve()))


def best(scores: list[list[float]]) -> list[str]:
    """The best heads with their scores."""
    places = [(value, layer, head) for layer, row in enumerate(scores) for head, value in enumerate(row)]
    return [f"{layer}.{head} {value:.3f}" for value, layer, head in sorted(places, reverse=True)[:BEST]]
