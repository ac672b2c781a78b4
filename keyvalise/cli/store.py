"""`keyvalise store`: what lies in a store, and taking it away. Loads no model and shows nobody's text."""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyvalise.cli import options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.types.errors import StoreError

if TYPE_CHECKING:
    from keyvalise.store.tiers.shelf import Shelf

SHOWN = 12
"""Digits of a hash that are shown; `rm` takes them."""

UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

Address = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="A folder, or s3:// gs:// az:// redis:// valkey://; default: $KEYVALISE_STORE, or your own.",
        metavar="URI",
    ),
]
Salt = Annotated[
    str | None,
    typer.Option(
        "--salt", envvar="KEYVALISE_SALT", help="Only what was put under this salt.", metavar="TEXT"
    ),
]

stored = typer.Typer(
    no_args_is_help=True,
    epilog="Example: keyvalise store ls --store ~/caches",
    help="Caches kept on disk or on a server: list, remove, clean, count.",
)
app.add_typer(stored, name="store")


@stored.command("ls", epilog="Example: keyvalise store ls --store ~/caches --json")
def ls(
    store: Address = None, salt: Salt = None, json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """List what is stored, the last used first; tenants and objects are hashes."""
    from keyvalise.store.tiers import upkeep

    screen, found = Screen(json, quiet), upkeep.rows(_shelf(store), salt)
    if json:
        screen.document([asdict(row) for row in found])
    elif quiet:
        for row in found:
            screen.result(row.object)
    else:
        heads = ("object", "tenant", "tokens", "bytes", "last used", "recipe")
        screen.table(
            heads,
            [
                (
                    row.object[:SHOWN],
                    row.tenant[:8],
                    f"{row.n_tokens:,}",
                    _size(row.n_bytes),
                    _ago(row.used_s),
                    row.recipe,
                )
                for row in found
            ],
        )
        if not found:
            screen.remark("nothing is stored")


@stored.command("rm", epilog="Example: keyvalise store rm 3f9c02a1b7de --store ~/caches")
def rm(
    objects: Annotated[
        list[str] | None, typer.Argument(help="Objects, by their first digits.", metavar="OBJECT...")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that is stored, or all under --salt.")
    ] = False,
    store: Address = None,
    salt: Salt = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove objects, and what leads to them."""
    from keyvalise.store.tiers import upkeep

    if bool(objects) == everything:
        raise StoreError("name the objects to remove, or give --all; `keyvalise store ls` shows their names")
    screen, shelf = Screen(json, quiet), _shelf(store)
    if everything:
        gone = upkeep.clear(shelf, upkeep.everything(shelf, salt))
    else:
        gone = upkeep.remove(shelf, objects or [], salt)
    _say(screen, {"removed": len(gone), "n_bytes": sum(one.n_bytes for one in gone)})


@stored.command("gc", epilog="Example: keyvalise store gc --max-bytes 5GB --store ~/caches")
def gc(
    grace: Annotated[
        float,
        typer.Option("--grace", min=0, help="Leave alone what is younger, in seconds.", metavar="SECONDS"),
    ] = 3600.0,
    max_bytes: Annotated[
        str | None,
        typer.Option("--max-bytes", help="Also remove the longest unused beyond so much.", metavar="SIZE"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also read every object, and remove what is damaged.")
    ] = False,
    store: Address = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Remove what crashes have left; with --max-bytes also what was not used for longest."""
    from keyvalise.store.tiers import upkeep

    screen, limit = Screen(json, quiet), None if max_bytes is None else n_bytes(max_bytes)
    with warnings.catch_warnings(), screen.status("cleaning"):
        # What is damaged is counted here and need not be told one by one.
        warnings.simplefilter("ignore")
        found = upkeep.gc(_shelf(store), grace, limit, is_thorough=check)
    _say(screen, asdict(found))


@stored.command("stats", epilog="Example: keyvalise store stats --json")
def stats(
    store: Address = None, salt: Salt = None, json: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Count objects, bytes and tenants, and say where they lie and how much may lie there."""
    from keyvalise.store.tiers import upkeep

    found = upkeep.stats(_shelf(store), salt)
    shown = ("uri", "n_objects", "n_tenants", "n_bytes", "max_bytes")
    _say(Screen(json, quiet), {name: getattr(found, name) for name in shown})


def _shelf(uri: str | None) -> Shelf:
    from keyvalise.store.tiers import uri as uris
    from keyvalise.store.tiers.shelf import Shelf

    return Shelf(uris.tier(uris.default() if uri is None else uri))


def _say(screen: Screen, data: dict[str, Any]) -> None:
    """Counts: as JSON, or one to a line."""
    if screen.json:
        screen.document(data)
        return
    for name, value in data.items():
        is_size = name.endswith("bytes")
        words = name.removeprefix("n_").replace("_", " ")
        screen.result(f"{words:12} {_size(value) if is_size else value}")


def _ago(used_s: float) -> str:
    """How long since, in the largest whole unit."""
    since = max(time.time() - used_s, 0.0)
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if since >= seconds:
            return f"{since // seconds:.0f} {unit} ago"
    return "now"


def _size(n: int) -> str:
    """Bytes for people: 8.4 MB."""
    for unit, one in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= one:
            return f"{n / one:.1f} {unit}"
    return f"{n} B"


def n_bytes(text: str) -> int:
    """A size such as 5GB, 512MiB or 1000000.

    Raises   StoreError for anything else
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2] not in UNITS:
        raise StoreError(f"cannot read the size {text!r}; write 5GB, 512MiB or a number of bytes")
    return int(float(match[1]) * UNITS[match[2]])
