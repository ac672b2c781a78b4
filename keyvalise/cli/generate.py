"""`keyvalise generate`: compress documents once, then ask."""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keyvalise.cli import inputs, kernels, options
from keyvalise.cli.app import app
from keyvalise.cli.screen import Screen
from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EXAMPLE = (
    "Example: keyvalise generate --document notes.txt --question 'question : the code of mira tolan is' "
    "--recipe 'snapkv @ 25%'"
)

Packed = Annotated[
    str | None,
    typer.Option(
        "--cache", help="A file that `keyvalise pack` wrote, in place of documents.", metavar="FILE"
    ),
]
Kept = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Where read documents are kept and found again: a folder, or s3:// gs:// az:// redis:// valkey://.",
        metavar="URI",
    ),
]
Questions = Annotated[
    list[str] | None, typer.Option("--question", help="What to ask; repeatable.", metavar="TEXT")
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat",
        help="Ask the questions one after the other in one conversation: answers stay in the cache. "
        "At a terminal the conversation then goes on until an empty line.",
    ),
]


@app.command(epilog=EXAMPLE)
def generate(
    document: options.Documents = None,
    cache: Packed = None,
    store: Kept = None,
    question: Questions = None,
    recipe: options.RecipeText = "full",
    model: options.Model = "reference",
    dtype: options.Dtype = "auto",
    device: options.Device = "cpu",
    max_new_tokens: options.MaxNewTokens = 32,
    prefill_chunk: options.PrefillChunk = None,
    host_memory: options.HostMemory = None,
    seed: options.Seed = 0,
    salt: options.Salt = "",
    chat: Chat = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Answer questions about documents from a compressed cache.

    The documents are read once, as one text in the order given; no question is seen before the compression.
    With --cache they have been read before, by `keyvalise pack`; with --store they are read where nobody has
    read them yet. Questions are asked independently of each other, unless --chat is given.
    """
    screen, asked = Screen(json, quiet), question or []
    is_open = chat and not json and sys.stdin.isatty() and "-" not in (document or [])
    _check(asked, is_open)
    from keyvalise.recipe.object import Recipe

    # Whatever can be wrong is told before anything slow is loaded.
    read = Recipe.parse(recipe)
    chosen = {"--document": document, "--recipe": recipe != "full", "--dtype": dtype != "auto"}
    told = {"prefill_chunk": prefill_chunk, "host_memory": host_memory, "seed": seed}
    others = {f"--{name.replace('_', '-')}": value for name, value in told.items()}
    text = inputs.documents(document or []) if cache is None else _only(cache, store, {**chosen, **others})
    from keyvalise.cli.session import Session
    from keyvalise.host.store import Store

    kept = None if store is None else Store(store)
    loaded = kernels.loaded(model, device, read, screen)
    with screen.status("reading"):
        session = Session(*loaded, recipe, inputs.dtype(dtype, loaded[0]), max_new_tokens)
        begin = time.perf_counter()
        if cache is None:
            session.read(text, asked, kept, salt, **told)
        else:
            session.open(cache, asked, salt)
        read_s = time.perf_counter() - begin
    answers = []
    found = session.converse(_typed(asked, is_open)) if chat else session.ask(asked)
    for one, answer in answering(found, screen, is_typed=is_open):
        answers.append({"question": one, "answer": answer})
        screen.remark(f"> {one}")
        screen.result(answer)
    facts = {**session.facts(), "model": model, "read_s": round(read_s, 3)}
    if json:
        screen.document({**facts, "answers": answers})
    screen.remark(bytes_line(facts))
    screen.warn(*facts["notes"])


def _check(asked: Sequence[str], is_open: bool) -> None:
    """There is something to ask."""
    if not asked and not is_open:
        raise InputError("no question given; add --question TEXT (at a terminal, --chat asks for them)")
    if any(not text.strip() for text in asked):
        raise InputError("a question is empty")


def _only(cache: str, store: str | None, chosen: Mapping[str, object]) -> str:
    """No text, where a file that can be opened stands for it, and everything that was settled with it."""
    if store is not None:
        raise InputError("--cache names one packed file, --store a place for many; give one of them")
    extra = next((name for name, given in chosen.items() if given), None)
    if extra is not None:
        raise InputError(f"{extra} was settled when {cache} was packed; leave it out, or leave out --cache")
    inputs.packed(cache)
    return ""


def answering(
    found: Iterator[tuple[str, str]], screen: Screen, *, is_typed: bool
) -> Iterator[tuple[str, str]]:
    """The same pairs, with a spinner while each is waited for, unless a person is typing meanwhile."""
    while True:
        with nullcontext() if is_typed else screen.status("answering"):
            pair = next(found, None)
        if pair is None:
            return
        yield pair


def bytes_line(facts: dict[str, Any]) -> str:
    """What the cache holds, in one line; in more what parts found out, and where it is kept."""
    from keyvalise.bench.summary import size

    first = (
        f"{facts['recipe']}: {facts['nbytes']:,} bytes ({size(facts['nbytes'])}), {facts['share']:.1%} of a "
        f"16-bit full cache of {facts['seen']:,} tokens"
    )
    store = facts.get("store")
    where = {"disk": "lie on disk, beside these bytes", "host": "of them lie in host memory"}
    read = f"{size(facts['read_bytes'])} read from there"
    last = [f"{size(n)} {where[tier]}; {read}" for tier, n in facts["tiers"].items()]
    last += [] if store is None else [f"{'found' if store['hits'] else 'kept'} in the store {store['uri']}"]
    return "\n".join([first, *facts["knobs"], *last])


def _typed(asked: Sequence[str], is_open: bool) -> Iterator[str]:
    """The questions given, then those typed at the terminal."""
    yield from asked
    while is_open:
        try:
            line = input("> ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line
