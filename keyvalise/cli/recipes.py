"""`keyvalise recipes`: the catalogue, and one recipe explained."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from keyvalise.cli import options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen

catalogue = typer.Typer(
    no_args_is_help=False,
    epilog="Example: keyvalise recipes show 'snapkv > int4 @ 10%'",
    help="The catalogue.",
)
app.add_typer(catalogue, name="recipes")


@catalogue.callback(invoke_without_command=True)
def recipes(context: typer.Context, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the recipes, or show one: parts, arguments, bytes, laws, paper."""
    if context.invoked_subcommand is None:
        listing(json, quiet)


@catalogue.command("list", epilog="Example: keyvalise recipes list --json")
def listing(json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Every recipe with its text and what it does."""
    from keyvalise.recipe import catalogue as published

    screen = Screen(json, quiet)
    found = [published.recipe(name) for name in published.recipes()]
    if json:
        screen.document([{"name": one.name, "text": one.text, "about": _first(one.essay)} for one in found])
    elif quiet:
        screen.result("\n".join(one.name for one in found))
    else:
        for one in found:
            screen.remark(f"{one.name:16} {_first(one.essay)}")
            screen.remark(f"{'':16} {one.text or '(no parts)'}")
        screen.remark(
            "\nkeyvalise recipes show NAME explains one; parts behind a name change it: 'snapkv > int4 @ 10%'"
        )


@catalogue.command("show", epilog="Example: keyvalise recipes show 'snapkv > int4 @ 10%'")
def show(
    recipe: Annotated[str, typer.Argument(help="A name of the catalogue, or any recipe.", metavar="RECIPE")],
    model: options.Model = "reference",
    dtype: options.Dtype = "auto",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Explain a recipe: its parts and their arguments, its bytes, the laws it keeps, its paper."""
    from keyvalise.recipe.object import Recipe

    screen, found = Screen(json, quiet), Recipe.parse(recipe)
    data: dict[str, Any] = {
        "recipe": str(found),
        "name": found.name,
        "parts": found.describe(),
        "bytes_per_token": _slope(found, model, dtype),
        "laws": laws(found),
        "bibtex": found.cite(),
        "essay": _essay(recipe),
    }
    if json:
        screen.document(data)
        return
    screen.result(data["parts"].rstrip())
    slope, full = data["bytes_per_token"]
    screen.remark(
        f"\nbytes    {slope:,.0f} for every further token of a prompt ({model}); full cache: {full:,.0f}"
    )
    screen.remark(f"laws     {', '.join(laws(found))}")
    if data["essay"]:
        screen.remark(f"\n{data['essay'].strip()}")
    if data["bibtex"].strip():
        screen.remark(f"\n{data['bibtex'].strip()}")


def laws(recipe: Any) -> list[str]:
    """The laws that hold for a recipe beyond those that hold for all."""
    always = [
        "bytes_are_true",
        "pure",
        "repeatable",
        "batch_is_loop",
        "second_turn",
        "crop_is_undo",
        "round_trip",
    ]
    found = [*always]
    if recipe.code is None:
        found.insert(0, "identity at full budget")
    if recipe.stages and recipe.code is None and recipe.positions == "absolute":
        found.append("masked_oracle")
    if any(stage.decodes for stage in recipe.stages):
        found.append("draft_is_greedy")
    return found


def _slope(recipe: Any, model: str, dtype: str) -> tuple[float, float]:
    """Bytes per token of a recipe and of the full cache, from the model's configuration alone."""
    import torch

    from keyvalise.cli import inputs
    from keyvalise.recipe.object import Recipe

    config = inputs.config(model)
    held = torch.float16
    if dtype != "auto":
        held = inputs.dtype(dtype, None)
    elif getattr(config, "dtype", None) is torch.bfloat16:
        held = torch.bfloat16
    return recipe.bytes_per_token(config, held), Recipe().bytes_per_token(config, held)


def _essay(text: str) -> str:
    """What the file of the recipe that a text begins with says."""
    from keyvalise.recipe import catalogue as published

    name = re.split(r"[\s(>@;]", text.strip(), maxsplit=1)[0]
    return published.recipe(name).essay if name in published.recipes() else ""


def _first(essay: str) -> str:
    """The first sentence."""
    return " ".join(essay.strip().split("\n\n")[0].split())
