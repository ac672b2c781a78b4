"""First token of an answer: a context read once and kept in a store, against reading it again.

    python bench/first_token.py [CASE …] [--again] [--list]

Both sides end with the same short question and the model's logits behind it; what is loaded is verified
whole. The reference model reads a generated document of 4k tokens, a random model of 8 layers (hidden 512, 8
query and 4 kv heads of 64) one of 16k. The server is a Redis or Valkey of this machine, reached over
loopback.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cases
import models
import torch
from torch import Tensor

import keyvalise

QUESTION = 12
ROUNDS = {"reference 4k": 5, "random 16k": 2}
RECIPES = ("full", "int4", "keydiff > int4 @ 25%")
LEAST = {"folder": 5.0, "server": 3.0}
"""How many times faster the first token is asked to be."""


@contextlib.contextmanager
def server(folder: str) -> Iterator[str]:
    """The address of a server that lives as long as the block.

    Raises   Unavailable where none is installed
    """
    program = next((path for path in map(shutil.which, ("valkey-server", "redis-server")) if path), None)
    if program is None:
        raise cases.Unavailable("no redis-server or valkey-server is installed")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = (program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder)
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.terminate()
        running.wait()


def context(name: str) -> tuple[Any, Tensor]:
    """A model and the token ids [1, N] of a document with a question behind it."""
    if name == "reference 4k":
        model, tokenizer = keyvalise.reference()
        task = keyvalise.tasks.generate("needle", tokens=4096 - 64, seed=1)
        return model, tokenizer(task.document + task.questions[0], return_tensors="pt").input_ids
    model = models.llama(models.Shape(8, 8, 4, 64, 512))
    return model, torch.randint(0, 64, (1, 16384), generator=torch.Generator().manual_seed(1))


def first_token(name: str, place: str) -> cases.Figure:
    """One model, one place, every recipe, in turns with reading the document anew."""
    model, ids = context(name)
    document, question = ids[:, :-QUESTION], ids[:, -QUESTION:]
    with tempfile.TemporaryDirectory() as folder:
        around = server(folder) if place == "server" else contextlib.nullcontext(str(Path(folder) / "store"))
        with around as address, torch.no_grad():
            store = keyvalise.Store(address, max_bytes=8 * 2**30)
            for recipe in RECIPES:
                store.put(read(model, document, recipe), document)

            def cold() -> None:
                model(question, past_key_values=read(model, document, "full"), logits_to_keep=1)

            def warm(recipe: str) -> None:
                cache = store.get(model, document, recipe)
                assert cache is not None and cache.seen == document.shape[1], "what was put is there"
                model(question, past_key_values=cache, logits_to_keep=1)

            sides = {"reading anew": cold, **{recipe: partial(warm, recipe) for recipe in RECIPES}}
            times = cases.alternate(sides, ROUNDS[name])
            hits = store.stats().hits
    assert hits >= len(RECIPES) * ROUNDS[name], "every round was a hit"
    found: dict[str, dict[str, Any]] = {}
    targets = []
    for side, spent in times.items():
        found[side] = cases.summary(spent) | {"ratio": round(cases.paired(spent, times["reading anew"]), 4)}
        if side in RECIPES:
            gain = cases.median(times["reading anew"]) / cases.median(spent)
            what = f"first token, {name}, from a {place}, {side}: times faster than reading anew"
            targets.append(cases.Target(what, round(gain, 2), LEAST[place], at_least=True))
    settings = {"model": name, "place": place, "tokens": document.shape[1], "question": QUESTION}
    return cases.Figure(settings, found, targets)


def read(model: Any, document: Tensor, recipe: str) -> keyvalise.KVCache:
    """A cache that has seen the document."""
    cache = keyvalise.KVCache(model, recipe)
    cache.prompt_ends(document.shape[1])
    model(document, past_key_values=cache, logits_to_keep=1)
    return cache


CASES: dict[str, cases.Case] = {
    f"{name}-{place}".replace(" ", "-"): partial(first_token, name, place)
    for name in ("reference 4k", "random 16k")
    for place in ("folder", "server")
}


if __name__ == "__main__":
    sys.exit(cases.main("first_token", CASES))
