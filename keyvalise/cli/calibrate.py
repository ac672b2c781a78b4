"""`keyvalise calibrate`: the one-off training that some recipes need, kept as assets that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyvalise.cli import inputs, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading
from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    from keyvalise.train.texts import Texts
    from keyvalise.train.trainers import Made


@app.command(epilog="Example: keyvalise calibrate reference pq --tokens 20000")
def calibrate(
    model: Annotated[
        str, typer.Argument(help="'reference', a local folder, or a name on the hub.", metavar="MODEL")
    ],
    recipe: Annotated[str, typer.Argument(help="A recipe, as in 'svd > int4'.", metavar="RECIPE")],
    text: Annotated[
        list[Path] | None,
        typer.Option(help="A text file to learn from instead of generated text; repeatable.", metavar="FILE"),
    ] = None,
    tokens: Annotated[
        int, typer.Option(min=256, help="Tokens to read, or a little more.", metavar="N")
    ] = 32768,
    out: Annotated[
        str | None, typer.Option(help="Keep the asset under this name instead.", metavar="NAME")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Train anew what there is, and forget what was broken off.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of texts and of the training.", metavar="N")] = 0,
    device: options.Device = "cpu",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train what a recipe needs for a model: codebooks, bases, projections. Once for each model.

    The text is generated, of the training split, or your own. What is made is kept where recipes look for it,
    under the name that the recipe's parts ask for; the hash behind an @ names it for ever, as in
    pq(codebook='pq@1a2b3c4d5e6f'). What is there already is left alone. A training that was broken off goes
    on where it was.
    """
    screen = Screen(json, quiet)
    from keyvalise.recipe.object import Recipe

    found = Recipe.parse(recipe)
    with screen.status("loading"):
        from keyvalise.train import trainers

        loaded, tokenizer = loading.model(model, device)
    wanted = trainers.wanted(found, loaded)
    if out is not None and len(wanted) != 1:
        raise InputError(f"--out names one asset, and {recipe!r} needs {len(wanted)}")
    settings: dict[str, Any] = {"tokens": tokens, "seed": seed, "is_shown": screen.has_progress}
    made: list[Made] = []
    for one in wanted:
        there = None if fresh or out else trainers.ready(one, loaded)
        if there is None:
            read = _texts((loaded, tokenizer), text or [], tokens, seed)
            job = trainers.job(one, loaded, read, out, **settings)
            if fresh:
                job.forget()
            there = trainers.make(job)
        made.append(there)
    _show(screen, model, str(found), made)


def _texts(loaded: tuple[Any, Any], files: list[Path], tokens: int, seed: int) -> Texts:
    """The user's, or generated ones."""
    from keyvalise.train import texts

    if not files:
        return texts.generated(*loaded, tokens, seed)
    return texts.of_user(*loaded, {path.name: inputs.documents([str(path)]) for path in files}, tokens)


def _show(screen: Screen, model: str, recipe: str, made: list[Made]) -> None:
    """Every asset with its size and hash; the last words are how a recipe names it for ever."""
    from keyvalise.host import hashes

    if screen.json:
        screen.document({"model": model, "recipe": recipe, "assets": [_plain(one) for one in made]})
    if not made:
        screen.result(f"{recipe} needs no training")
    for one in made:
        verb = "trained" if one.is_new else "there already"
        screen.remark(f"{verb}: {one.path} ({one.path.stat().st_size:,} bytes)")
        screen.result(f"{one.name}@{one.content[: hashes.DIGITS]}")


def _plain(one: Made) -> dict[str, Any]:
    own = {"name": one.name, "file": str(one.path.resolve()), "sha256": one.content, "new": one.is_new}
    return {**one.header, **own, "bytes": one.path.stat().st_size}
