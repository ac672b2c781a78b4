"""`keyvalise inspect-cache`: what a recipe keeps of a document, and where its bytes lie; or a file does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyvalise.cli import inputs, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading
from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    from keyvalise.host.cache import KVCache
    from keyvalise.host.ledger import Line


@app.command(
    "inspect-cache", epilog="Example: keyvalise inspect-cache --recipe 'adakv @ 25%' --document notes.txt"
)
def inspect_cache(
    file: Annotated[
        str | None,
        typer.Argument(help="A file that `keyvalise pack` wrote, in place of a document.", metavar="[FILE]"),
    ] = None,
    recipe: options.RecipeText = "full",
    document: options.Documents = None,
    model: options.Model = "reference",
    dtype: options.Dtype = "auto",
    device: options.Device = "cpu",
    prefill_chunk: options.PrefillChunk = None,
    host_memory: options.HostMemory = None,
    seed: options.Seed = 0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a document under a recipe; print bytes per layer and field, and tokens per layer and head.

    Of a packed FILE, the same and what its header says; every digest is verified, and no model is needed.
    """
    from keyvalise.recipe.object import Recipe

    screen = Screen(json, quiet)
    if file is not None:
        if document or recipe != "full":
            raise InputError(
                f"{file} has a document and a recipe of its own; leave out --document and --recipe"
            )
        _inspect_file(file, screen)
        return
    Recipe.parse(recipe)
    text = inputs.documents(document or [])
    from keyvalise.cli.generate import bytes_line
    from keyvalise.cli.session import Session

    with screen.status("reading"):
        loaded = loading.model(model, device)
        session = Session(*loaded, recipe, inputs.dtype(dtype, loaded[0]))
        session.read(text, prefill_chunk=prefill_chunk, host_memory=host_memory, seed=seed)
    facts, kept = {**session.facts(), "model": model}, heads(session.cache)
    if json:
        screen.document({**facts, "kept": kept, "ledger": session.cache.ledger().to_dict()})
        return
    screen.table(*ledger(session.cache.ledger().lines), title="bytes")
    screen.table(*spread(kept), title="\ntokens per kv head")
    screen.remark("")
    for kind, kernel in session.cache.ledger().kernels.items():
        screen.remark(f"a step reads {kind}: {kernel}")
    screen.result(bytes_line(facts))
    for name, n_bytes in session.cache.ledger().assets.items():
        screen.remark(f"asset {name}: {n_bytes:,} bytes, counted apart")
    screen.warn(*facts["notes"])


def _inspect_file(name: str, screen: Screen) -> None:
    from keyvalise.host import looked

    stored = inputs.packed(name)
    with screen.status("verifying"):
        stored.hold()
        found = looked.at(stored)
    kept = spans(found.kept)
    if screen.json:
        screen.document({**found.facts(), "file": name, "kept": kept, "header": stored.header})
        return
    screen.table(["what", "value"], [[what, value] for what, value in found.words()], title=name)
    screen.table(*ledger(found.lines), title="\nbytes")
    screen.table(*spread(kept), title="\ntokens per kv head")
    screen.remark("")
    screen.result(
        f"{name}: {found.file_bytes:,} bytes, of which {found.nbytes:,} are tensors; all "
        f"{len(stored.places)} parts are what was written"
    )


def heads(cache: KVCache) -> list[dict[str, Any]]:
    """Per layer: how many tokens every kv head holds, and the first and last of them."""
    return spans({layer: cache.kept_positions(layer) for layer in cache.shared.layers})


def spans(kept: dict[int, list[list[list[int]]]]) -> list[dict[str, Any]]:
    """The same of layer → [row][kv head] → ordinals, for the first row."""
    found = []
    for layer, rows in kept.items():
        for head, ordinals in enumerate(rows[0] if rows else []):
            ends = {"first": ordinals[0], "last": ordinals[-1]} if ordinals else {"first": None, "last": None}
            found.append({"layer": layer, "head": head, "kept": len(ordinals), **ends})
    return found


def ledger(lines: Sequence[Line]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of bytes per layer and segment kind, one column per field."""
    fields = list(dict.fromkeys(line.field for line in lines))
    table: dict[tuple[int, str], dict[str, int]] = {}
    for line in lines:
        row = table.setdefault((line.layer, line.kind), {})
        row[line.field] = row.get(line.field, 0) + line.n_bytes
    rows = [
        [f"{layer}  {kind}", *(f"{row.get(field, 0):,}" for field in fields), f"{sum(row.values()):,}"]
        for (layer, kind), row in table.items()
    ]
    totals = [sum(row.get(field, 0) for row in table.values()) for field in fields]
    rows.append(["all", *(f"{total:,}" for total in totals), f"{sum(totals):,}"])
    return ["layer  segment", *fields, "total"], rows


def spread(kept: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows): per layer the tokens of every head, and the range of positions."""
    layers: dict[int, list[dict[str, Any]]] = {}
    for one in kept:
        layers.setdefault(one["layer"], []).append(one)
    n_heads = max(map(len, layers.values()), default=0)
    rows = []
    for layer, found in layers.items():
        counts = [f"{one['kept']:,}" for one in found] + [""] * (n_heads - len(found))
        firsts = [one["first"] for one in found if one["kept"]]
        lasts = [one["last"] for one in found if one["kept"]]
        reach = f"{min(firsts):,} - {max(lasts):,}" if firsts else ""
        rows.append([str(layer), *counts, reach])
    return ["layer", *(f"head {head}" for head in range(n_heads)), "positions"], rows
