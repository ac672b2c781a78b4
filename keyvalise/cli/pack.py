"""`keyvalise pack` and `keyvalise unpack`: a document's cache as one file, and a file as plain tensors."""

from __future__ import annotations

import json as jsons
import time
from pathlib import Path
from typing import Annotated

import typer

from keyvalise.cli import inputs, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.reference import loading
from keyvalise.types.errors import InputError

TENSORS, HEADER = "cache.safetensors", "header.json"
"""What `unpack` writes."""


@app.command(
    epilog="Example: keyvalise pack --document notes.txt --recipe 'keydiff > int4 @ 25%' --out notes.kv"
)
def pack(
    out: Annotated[str, typer.Option("--out", help="The file to write.", metavar="FILE")],
    document: options.Documents = None,
    recipe: options.RecipeText = "full",
    model: options.Model = "reference",
    dtype: options.Dtype = "auto",
    device: options.Device = "cpu",
    prefill_chunk: options.PrefillChunk = None,
    host_memory: options.HostMemory = None,
    seed: options.Seed = 0,
    salt: options.Salt = "",
    level: options.Level = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read documents, compress them, and keep what is left in one file.

    `keyvalise generate --cache FILE` answers from it without reading the documents again; any change of the
    file, and any other model, is refused.
    """
    from keyvalise.recipe.object import Recipe
    from keyvalise.store import file
    from keyvalise.store.stream import levels

    screen = Screen(json, quiet)
    Recipe.parse(recipe)
    if level is not None:
        levels.find(level)
    text = inputs.documents(document or [])
    place = file.open_uri(out)
    if not place.path.parent.is_dir():
        raise InputError(f"cannot write the cache {out}: there is no folder {place.path.parent}")
    from keyvalise.cli.generate import bytes_line
    from keyvalise.cli.session import Session

    with screen.status("reading"):
        loaded = loading.model(model, device)
        session = Session(*loaded, recipe, inputs.dtype(dtype, loaded[0]))
        session.read(text, prefill_chunk=prefill_chunk, host_memory=host_memory, seed=seed)
        begin = time.perf_counter()
        session.cache.save(out, tokenizer=session.tokenizer, tokens=session.context, salt=salt, level=level)
        save_s = time.perf_counter() - begin
    facts = {
        **session.facts(),
        "model": model,
        "file": out,
        "file_bytes": place.path.stat().st_size,
        "save_s": round(save_s, 3),
    }
    if json:
        screen.document(facts)
    screen.remark(bytes_line(facts))
    screen.result(f"{out}: {facts['file_bytes']:,} bytes")
    screen.warn(*facts["notes"])


@app.command(epilog="Example: keyvalise unpack notes.kv --out notes")
def unpack(
    cache: Annotated[str, typer.Argument(help="A file that `keyvalise pack` wrote.", metavar="FILE")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write to.", metavar="DIR")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Its model, for codes that read what was trained for it.", metavar="MODEL"
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a packed file's keys, values and positions as plain tensors, which other tools can read.

    Codes are written as the numbers they stand for; what was dropped stays dropped.
    """
    from safetensors.torch import save

    from keyvalise.host import unpacked
    from keyvalise.store import file

    screen = Screen(json, quiet)
    stored = inputs.packed(cache)
    with screen.status("unpacking"):
        stored.hold()
        tensors = unpacked.dense(stored, None if model is None else loading.model(model, "cpu")[0])
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to the folder {out}: {error.strerror or error}") from None
        file.File(out / TENSORS).publish([save(tensors)])
        header = jsons.dumps(stored.header, indent=2, ensure_ascii=False) + "\n"
        file.File(out / HEADER).publish([header.encode()])
    facts = {
        "file": cache,
        "recipe": stored.header["recipe"],
        "seen": stored.header["seen"],
        "tensors": {name: list(tensor.shape) for name, tensor in sorted(tensors.items())},
        "written": [str(out / TENSORS), str(out / HEADER)],
    }
    if json:
        screen.document(facts)
    rows = [
        [name, str(list(tensor.shape)), str(tensor.dtype)[6:]] for name, tensor in sorted(tensors.items())
    ]
    screen.table(["tensor", "shape", "dtype"], rows)
    for path in facts["written"]:
        screen.result(path)
