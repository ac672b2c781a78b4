"""Content of other caches, in and out, that is refused, with a piece of the sentence that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from transformers import DynamicCache

from keyvalise import KVCache, detach
from keyvalise.store.sketched import Sketched
from keyvalise.types.data import Sketch
from keyvalise.types.errors import (
    HostError,
    InputError,
)
from tests.support import drive
from tests.support.models import tiny
from tests.support.refused_files import N, held


def weighted() -> None:
    cache = held()
    layer = cache.shared.layers[0]
    assert layer.memory is not None
    sketch = Sketch(torch.ones(1, 4, 1, 16), torch.ones(1, 4, 1, 16), torch.zeros(1, 4, 1))
    more = Sketched(sketch, (True,), "compensate")
    layer.memory = replace(layer.memory, segments=(more, *layer.memory.segments))
    cache.to_dynamic()


def kept(family: str = "llama", **other: Any) -> Callable[[], Any]:
    """Everything that transformers' own cache holds, with something else in its place."""

    def call() -> None:
        model = tiny(family)
        detach(model)
        own = DynamicCache(config=model.config)
        drive.run(model, own, drive.text(N).calls(N))
        n_heads = own.layers[-1].keys.shape[1]
        given = {name: [getattr(layer, name) for layer in own.layers] for name in ("keys", "values")}
        at = [torch.arange(N).expand(1, n_heads, N)] * len(own.layers)
        given = {**given, "positions": at, "seen": N}
        KVCache.from_kept(model, **{**given, **{name: change(given[name]) for name, change in other.items()}})

    return call


def each(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same change of every layer."""
    return lambda layers: [change(one) for one in layers]


def dynamic(cache: Callable[[], KVCache], mask: Any = None) -> Callable[[], Any]:
    return lambda: cache().to_dynamic(mask)


ROWS: dict[type[Exception], list[tuple[Callable[[], Any], str]]] = {
    HostError: [
        (dynamic(lambda: held("knorm @ 9tok")), "layer 0 holds 9 of the 21 tokens of row 0; a DynamicCache"),
        (weighted, "layer 0 holds weighted entries, which a DynamicCache cannot hold"),
    ],
    InputError: [
        (dynamic(lambda: held(pad=4)), "a row has seen 17 tokens in 21 columns; pass the attention mask"),
        (
            dynamic(lambda: held(pad=4), torch.ones(2, N)),
            "the attention mask must mark [21, 17] tokens in 21 columns",
        ),
        (kept("gemma3"), "layer 0 is a DynamicSlidingWindowLayer of the model's own, and kept tokens do not"),
        (kept(keys=lambda layers: layers[:2]), "keys are given for 2 layers, the model has 3"),
        (
            kept(seen=lambda n: [n, n]),
            "keys, values, positions and seen must have as many rows, got 1 of keys",
        ),
        (kept(keys=each(lambda k: k[:, :2])), "layer 0: the model has 4 kv heads, got [2, 4]"),
        (kept(keys=each(lambda k: k[..., :8])), "keys and values have 16 and 16 numbers, got 8 and 16"),
        (
            kept(keys=each(lambda k: k[:, :, 1:])),
            "every head has keys [T, D], values [T, D] and positions [T]",
        ),
        (kept(seen=lambda n: 9), "positions of a head must differ and lie below 9, the tokens seen"),
        (
            kept("bloom", seen=lambda n: n + 1),
            "this model computes its own masks, so tokens cannot be missing",
        ),
    ],
}
"""error → (what raises it, a piece of what it says)."""
