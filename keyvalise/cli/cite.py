"""`keyvalise cite`: BibTeX of exactly what a recipe uses."""

from __future__ import annotations

from typing import Annotated

import typer

from keyvalise.cli import options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen


@app.command(epilog="Example: keyvalise cite 'adakv > kivi @ 10%' > refs.bib")
def cite(
    recipe: Annotated[str, typer.Argument(help="A recipe, as in 'snapkv @ 25%'.", metavar="RECIPE")],
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Print BibTeX of the published ideas that a recipe uses."""
    from keyvalise.recipe.object import Recipe

    screen, found = Screen(json, quiet), Recipe.parse(recipe)
    bibtex = found.cite()
    if json:
        screen.document({"recipe": str(found), "bibtex": bibtex})
    elif bibtex.strip():
        screen.result(bibtex.strip())
    else:
        screen.warn(f"{recipe}: nothing published is used")
