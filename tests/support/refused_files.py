"""Stored caches that are refused, with a piece of the sentence that says so."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from keyvalise import KVCache, detach
from keyvalise.host import identity, saving, unpacked, weights
from keyvalise.store import file, streamed
from keyvalise.store.file import File
from keyvalise.store.source import Opened
from keyvalise.types.errors import (
    CacheFileError,
    Damaged,
    FutureVersion,
    InputError,
    OtherModel,
    UnsupportedModel,
)
from tests.support import drive
from tests.support.cachefiles import retold
from tests.support.models import tiny

N = 21
CODED = "knorm > int8(residual=4, group=8) @ 60%"


def held(recipe: str = "full", family: str = "llama", pad: int = 0) -> KVCache:
    """A cache that has seen a short text, with a padded second row where asked for."""
    rows = (N, N - pad) if pad else (N,)
    cache = KVCache(tiny(family), recipe)
    drive.run(tiny(family), cache, drive.text(*rows).calls(N))
    return cache


@functools.cache
def stored(recipe: str = "full", family: str = "llama") -> bytes:
    """The same as a file's bytes."""
    return saving.dumps(held(recipe, family))


def loaded(data: bytes, family: str = "llama", **options: Any) -> KVCache:
    return saving.loads(data, tiny(family), **options)


def told(change: Callable[[Any], Any], recipe: str = CODED) -> Callable[[], Any]:
    """A file whose header says something else, with right digests."""
    return lambda: loaded(retold(stored(recipe), lambda inner, outer: change(inner)))


def memory(change: Callable[[Any], Any], recipe: str = CODED) -> Callable[[], Any]:
    """The same of the first layer's memory."""
    return told(lambda inner: change(inner["layers"]["0"]["memory"]), recipe)


def published(then: Callable[[Path], Any]) -> Callable[[], Any]:
    """What is done to a file."""

    def call() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.kv"
            path.write_bytes(stored())
            then(path)

    return call


def senseless() -> None:
    """A file with right digests of a stream that is none."""
    header = {"streams": {"level": "lossless", "sheets": [], "arrays": ["x"]}}
    data = b"".join(file.chunks(header, {"arrays": torch.zeros(99, dtype=torch.uint8)}))
    streamed.opened(data).read("x")


def shrinking(path: Path) -> None:
    """A file that is cut short between its parts."""
    opened = file.Stored(File(path).source())
    path.write_bytes(path.read_bytes()[:-9])
    opened.verify()


def unreadable(path: Path) -> None:
    """A file that cannot be read any more."""
    with path.open("ab", buffering=0) as written:
        file.Stored(Opened(written))


def gone() -> None:
    model = copy.deepcopy(tiny("llama"))
    cache = KVCache(model)
    detach(model)
    del model
    saving.dumps(cache)


def trained() -> None:
    model = copy.deepcopy(tiny("llama"))
    cache = KVCache(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    saving.dumps(cache)


def elsewhere() -> None:
    model = copy.deepcopy(tiny("llama"))
    model.model.layers[1].mlp.to("meta")
    weights.digest(model)


def gadget() -> None:
    cache = held(family="gemma3")
    cache.layers[0].gadget = object()
    saving.dumps(cache)


def odd_values() -> None:
    cache = held()
    layer = cache.shared.layers[0]
    assert layer.memory is not None
    layer.memory = replace(layer.memory, stats={"odd": object()})  # type: ignore[dict-item]
    saving.dumps(cache)


def later_layout() -> None:
    data, before = stored(), identity.LAYOUT
    identity.LAYOUT = 0
    try:
        loaded(data)
    finally:
        identity.LAYOUT = before


def other_assets() -> None:
    def change(inner: Any) -> None:
        inner["assets"] = {"duo": "0" * 64}

    loaded(retold(stored("duo(sinks=1, recent=3) @ 60%"), lambda inner, outer: change(inner)))


def other_layer() -> None:
    def change(inner: Any) -> None:
        inner["layers"]["0"]["type"] = "DynamicLayer"

    loaded(retold(stored(family="gemma3"), lambda inner, outer: change(inner)), "gemma3")


ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    Damaged: [
        (lambda: loaded(b"a poem" * 99), "the cache file is no cache of this library, or its beginning"),
        (lambda: loaded(stored()[:999]), "the cache file is cut off: it ends inside its header"),
        (lambda: loaded(stored()[:-7]), "the cache file is cut off: 7 bytes are missing"),
        (lambda: loaded(stored() + b"ab"), "the cache file has 2 bytes behind its end"),
        (lambda: loaded(stored().replace(b"full", b"fulk")), "its header is not what was written"),
        (
            lambda: loaded(retold(stored(), lambda inner, outer: inner.pop("digests"))),
            "header cannot be read",
        ),
        (lambda: loaded(stored()[:-1] + b"\7"), ".values' is not what was written"),
        (lambda: file.opened(stored()).read("x"), "the cache file has no part 'x', which its header names"),
        (published(shrinking), "is cut off: 9 bytes are missing"),
        (
            lambda: streamed.opened(saving.dumps(held(), level="lossless")).read("x"),
            "the cache file has no part 'x', which its header names",
        ),
        (told(lambda inner: inner.update(version=1)), "is damaged, or of version 1, which nobody reads any"),
        (senseless, "the cache file is damaged: this is no stream of keys and values"),
        (told(lambda inner: inner.pop("seed")), "the header of the cache file does not say 'seed'"),
        (told(lambda inner: inner.update(layers=[])), "the header of the cache file cannot be understood"),
        (told(lambda inner: inner["model"].pop("weights")), "the model of the cache file is not described"),
        (memory(lambda data: data.pop("stats")), "layer 0 of the cache file cannot be put together"),
        (
            memory(lambda data: data.update(clock=[N - 3])),
            "layer 0 of the cache file, tail: an entry stands where nothing has been seen",
        ),
        (
            memory(lambda data: data.update(prompt=[1, 2])),
            "layer 0 of the cache file: prompt is 2, must be 1",
        ),
    ],
    OtherModel: [
        (
            lambda: loaded(stored(), "qwen3"),
            "not of this model: architecture: LlamaForCausalLM in the file, Qwen3ForCausalLM in this model",
        ),
        (lambda: loaded(stored(), salt="x"), "the cache file is not of this model: its salt is another one"),
        (other_assets, "was made with other assets than those kept for this model: duo"),
        (other_layer, "layer 0 of the cache file is a DynamicLayer, here it is a DynamicSlidingWindowLayer"),
    ],
    FutureVersion: [
        (told(lambda inner: inner.update(version=7)), "has version 7; this library reads version 2"),
        (later_layout, "the cache file has layout 2; this library reads layout 0"),
        (
            memory(lambda data: data["segments"][0].update(kind="hologram")),
            "the cache file holds a 'hologram', which this library does not know",
        ),
        (
            memory(lambda data: data.update(stats={"hologram": 1})),
            "a value of the form 'hologram', which is not",
        ),
    ],
    CacheFileError: [
        (
            lambda: b"".join(file.chunks({}, {"x": torch.ones(2) * 1j})),
            "x: a file cannot hold numbers of torch",
        ),
        (lambda: held().save("s3://bucket/x"), "cannot open s3://bucket/x: a cache is kept at a path or at"),
        (lambda: KVCache.load("/dev/null/x", tiny("llama")), "cannot read the cache /dev/null/x: Not a dir"),
        (lambda: held().save("/dev/null/x"), "cannot write the cache /dev/null/x: Not a directory"),
        (published(unreadable), "cannot read the cache "),
        (gone, "the model that this cache was made for is gone; store a cache while it lives"),
        (trained, "the weights of LlamaForCausalLM were changed or moved after this cache was made"),
        (gadget, "layer 0 (DynamicSlidingWindowLayer) holds a object under 'gadget', which cannot be stored"),
        (odd_values, "layers.0.stats.odd is a object, which cannot be stored in a file"),
    ],
    UnsupportedModel: [
        (elsewhere, "the weight model.layers.1.mlp.gate_proj.weight of LlamaForCausalLM is not in memory"),
    ],
    InputError: [
        (
            lambda: saving.dumps(held(), tokens=[1]),
            "the tokens given have rows of [1], the cache has seen [21]",
        ),
        (
            lambda: unpacked.dense(file.opened(stored("pq(residual=4)"))),
            "the cache file is in a code that can be read with its model alone; name the model",
        ),
    ],
}
"""error → (what raises it, a piece of what it says)."""
