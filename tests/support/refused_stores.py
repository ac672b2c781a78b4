"""Stores and links that cannot be opened, reached or asked for more, with a piece of what is said."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from keyvalise import KVCache, Store, detach
from keyvalise.host import streaming
from keyvalise.store.keys import Chain, Key
from keyvalise.store.stream import shelf as streams
from keyvalise.store.stream.controller import Controller
from keyvalise.store.stream.link import VirtualLink
from keyvalise.store.tiers import objects, upkeep, uri, valkey
from keyvalise.store.tiers.memory import MemoryTier
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.types.errors import InputError, StoreError, StoreFailure
from tests.support import drive
from tests.support.models import tiny

N = 21


@contextlib.contextmanager
def without(package: str) -> Iterator[None]:
    """A Python in which a package is not installed."""
    known = {name: sys.modules[name] for name in list(sys.modules) if name.split(".")[0] == package}
    importlib.import_module(package)
    sys.modules.update(dict.fromkeys((package, f"{package}.store")))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in (package, f"{package}.store"):
            sys.modules.pop(name, None)
        sys.modules.update(known)


def lacking(package: str, address: str) -> Callable[[], Any]:
    def call() -> None:
        with without(package):
            uri.tier(address)

    return call


def a_file() -> None:
    with tempfile.NamedTemporaryFile() as file:
        Store(file.name)


def unreadable() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "v1" / "x").mkdir(parents=True)
        uri.tier(folder).get("v1/x")


class Slow:
    """A server whose parts are gone when a draft is to be published."""

    def set(self, *words: Any, **options: Any) -> None: ...

    def eval(self, *words: Any) -> int:
        return 0


def forked() -> None:
    """What a child sees whose parent has used object storage."""
    bucket, before = objects.reached("memory:///"), list(objects._threaded)
    objects._threaded[:] = [-1]
    try:
        bucket.get("v1/a")
    finally:
        objects._threaded[:] = before


def full() -> None:
    Shelf(MemoryTier(), 99).put(Key(model="m"), [1, 2], lambda: bytes(100), is_croppable=False)


def removed(name: str) -> Callable[[], Any]:
    return lambda: upkeep.remove(Shelf(MemoryTier()), [name])


def put(tokens: Any, *, pad: int = 0, model: Any = None) -> Callable[[], Any]:
    """A cache of a text, with a padded second row where asked for, put under these tokens."""

    def call() -> None:
        ours = model or tiny("llama")
        cache = KVCache(ours)
        drive.run(ours, cache, drive.text(*((N, N - pad) if pad else (N,))).calls(N))
        Store("memory://").put(cache, tokens)

    return call


def gone() -> None:
    model = copy.deepcopy(tiny("llama"))
    cache = KVCache(model)
    drive.run(model, cache, drive.text(N).calls(N))
    detach(model)
    del model
    gc.collect()
    Store("memory://").put(cache, list(range(N)))


def offered(family: str = "llama", n: int = N) -> streams.Shelf:
    """What is offered of a cache that has read a text of N tokens, said to be n."""
    cache = KVCache(tiny(family))
    drive.run(tiny(family), cache, drive.text(N).calls(N))
    return streaming.shelf(cache, drive.text(N).ids[:, :n])


def too_long() -> None:
    """A link that offers more than the document has."""
    link = VirtualLink(offered().blob, [(1.0, 1e9)])
    streaming.receive(link, tiny("llama"), drive.text(N).ids[:, :9], Controller(1.0))


ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    StoreError: [
        (lambda: Chain.of(Key(model="m"), []), "a context of no token has no name; give at least one token"),
        (lambda: Chain.of(Key(model="m"), [2**64]), "tokens must be 64-bit integers"),
        (lambda: Store(" "), "the address of a store is empty; give a folder"),
        (lambda: Store("ftp://x"), "no store is reached by ftp://; write a folder or one of file, memory"),
        (lambda: Store("file://host/x"), "names a folder of the machine host; write file:///folder"),
        (lambda: uri.tier("/tmp").get("../x"), "'../x' is no name in a store"),
        (lacking("redis", "valkey://me:word@host"), "valkey://host needs redis-py; install it with: pip"),
        (lambda: Store("redis://user:word@h:port"), "cannot open the store redis://h:port: "),
        (lacking("obstore", "s3://a"), "s3://a needs obstore; install it with: pip install"),
        (lambda: objects.reached("wx://a"), "cannot open the store wx://a: "),
        (lambda: Store("memory://", chunk=0), "chunk must be at least 1, got 0"),
        (lambda: Store("memory://", max_bytes=0), "max_bytes must be at least 1, got 0"),
        (full, "does not fit into the store memory://, which is bounded to 99; open it with a larger max_by"),
        (removed("ab"), "'ab' is too short to name an object; give at least 6 digits"),
        (removed("abcdef"), "no object begins with 'abcdef'; `keyvalise store ls` shows their names"),
        (a_file, "is a file; a store needs a folder"),
        (put(torch.ones(2, N)), "a context is one row of tokens, got a tensor of shape [2, 21]"),
        (put([1, 2]), "the cache has seen 21 tokens and 2 are given; give exactly those it has seen"),
        (put(list(range(N)), pad=4), "a store keeps caches of one row without padding; take one row with"),
        (gone, "the model that this cache was made with is gone, so nobody can tell which it was"),
    ],
    InputError: [
        (lambda: offered("gemma3"), "a layer of this model keeps a cache of its own kind"),
        (lambda: offered(n=9), "the document must be the [1, 21] tokens that the cache has read, got [1, 9]"),
        (too_long, "the link offers 21 tokens, the document has 9"),
    ],
    StoreFailure: [
        (unreadable, "cannot read v1/x in the store"),
        (
            lambda: valkey.ValkeyTier(Slow(), "valkey://h", OSError).put("v1/a", b"x"),
            "cannot write v1/a in the store valkey://h: it took longer than 600 s",
        ),
        (forked, "in a forked process whose parent has used object storage; start the process with"),
    ],
}
"""error → (what raises it, a piece of what it says)."""
