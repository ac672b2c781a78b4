"""The application that commands register with; it knows none of them."""

from __future__ import annotations

from typing import Annotated

import typer

import keyvalise

app = typer.Typer(
    name="keyvalise",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: keyvalise demo   ·   every command has an example in its --help",
)


def _version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"keyvalise {keyvalise.__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Packs the keys and values of transformer language models, and shows what it cost and what it lost."""
