"""One prefill for many recipes: every layer is asked once and remembers in every recipe's way.

A prompt's attention is exact as long as no recipe cuts inside it, so all recipes see the same queries, keys
and values, and the model need run only once. Recipes with cuts inside the prompt read it on their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from keyvalise.host.attention import Handle, MaskInfo, Seam
from keyvalise.host.cache import KVCache
from keyvalise.host.handle import KVLayer
from keyvalise.recipe.object import Recipe
from keyvalise.types.when import Every

Watch = Callable[[int, Sequence[Tensor], MaskInfo], None]
"""(layer, one output [B, S, Hq, Dv] per cache, the call's mask)."""


@dataclass
class Clock:
    """Seconds of one forward: what every cache's own work took, and the model's attention that they share."""

    own_s: list[float]
    native_s: float = 0.0


@dataclass(frozen=True)
class Once(Seam):
    """A call whose own attention is computed once, whoever asks for it, and timed."""

    clock: Clock = field(default_factory=lambda: Clock([]))

    @cached_property
    def _native(self) -> Tensor:
        begin = now(self.query.device)
        out = Seam.native(self)
        self.clock.native_s += now(self.query.device) - begin
        return out

    def native(self) -> Tensor:
        return self._native


class FanLayer(CacheLayerMixin):
    """Hands the call behind its one handle to a layer of every cache; the first one answers."""

    is_sliding = False
    is_croppable = True
    is_compileable = False

    def __init__(self, layers: Sequence[KVLayer], clock: Clock, watch: Watch | None):
        CacheLayerMixin.__init__(self)
        self.fan, self.clock, self.watch = tuple(layers), clock, watch

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Every cache's layer checks that it is its turn; the model gets one handle."""
        for layer in self.fan:
            layer.update(key_states, value_states)
        handle = Handle(self, key_states, value_states)
        return handle, handle

    def attend(self, seam: Seam, mask: MaskInfo) -> Tensor:
        """The first cache's answer [B, S, Hq, Dv]; the others' go to `watch` alone."""
        shared = Once(seam.module, seam.query, seam.keys, seam.values, seam.mask, seam.options, self.clock)
        outs = [self._timed(i, shared, mask) for i in range(len(self.fan))]
        if self.watch is not None:
            self.watch(self.fan[0].index, outs, mask)
        return outs[0]

    def _timed(self, i: int, seam: Once, mask: MaskInfo) -> Tensor:
        begin, native = now(seam.query.device), self.clock.native_s
        out = self.fan[i].attend(seam, mask)
        self.clock.own_s[i] += now(seam.query.device) - begin - (self.clock.native_s - native)
        return out

    def get_seq_length(self) -> int:
        return self.fan[0].get_seq_length()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.fan[0].get_mask_sizes(query_length)

    def get_max_length(self) -> int:
        return -1


class FanOut(Cache):
    """Several caches of one model behind one: the first one's answers go on through the model.

    Layers that no recipe handles are the first cache's; `hand_out` copies them to the others.
    """

    def __init__(self, caches: Sequence[KVCache], watch: Watch | None = None):
        self.caches = tuple(caches)
        self.clock = Clock([0.0] * len(self.caches))
        first = self.caches[0]
        layers = [
            FanLayer([cache.layers[i] for cache in self.caches], self.clock, watch)
            if i in first.shared.layers
            else layer
            for i, layer in enumerate(first.layers)
        ]
        Cache.__init__(self, layers=layers)

    def hand_out(self) -> None:
        """Give every cache its own copy of the layers that no recipe handles."""
        first = self.caches[0]
        for cache in self.caches[1:]:
            own = first.fork()
            for i in range(len(first.layers)):
                if i not in first.shared.layers:
                    cache.layers[i] = own.layers[i]


@dataclass(frozen=True)
class Read:
    """A cache that has read a document, and the seconds that reading with this recipe alone takes."""

    cache: KVCache
    prefill_s: float


def read_all(model: Any, document: Tensor, caches: Sequence[KVCache]) -> list[Read]:
    """Let fresh caches read a document [1, N]; the first one must be the full cache.

    `prefill_s` of a recipe is the shared forward without what the other recipes did in it.
    """
    together = [cache for cache in caches if can_share(cache)]
    times: dict[int, float] = {}
    if together:
        fan = FanOut(together)
        spent = forward(model, document, fan, together)
        fan.hand_out()
        common = spent - sum(fan.clock.own_s)
        times = {id(cache): common + own for cache, own in zip(together, fan.clock.own_s, strict=True)}
    for cache in caches:
        if id(cache) not in times:
            times[id(cache)] = forward(model, document, cache, [cache])
    return [Read(cache, times[id(cache)]) for cache in caches]


def forward(model: Any, document: Tensor, cache: Cache, readers: Sequence[KVCache]) -> float:
    """Run the prompt; seconds."""
    for reader in readers:
        reader.prompt_ends(document.shape[1])
    begin = now(document.device)
    with torch.no_grad():
        model(document, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return now(document.device) - begin


def can_share(cache: KVCache) -> bool:
    """Whether a cache sees the whole prompt uncut, through handles, and nothing else of the call."""
    layers = cache.shared.layers.values()
    is_handled = bool(layers) and all(isinstance(layer, KVLayer) for layer in layers)
    is_whole = cache.shared.prefill_chunk is None and not cuts_the_prompt(cache.recipe)
    return is_handled and is_whole and not cache.recipe.taps


def cuts_the_prompt(recipe: Recipe) -> bool:
    """Whether a stage acts inside the prompt."""
    return any(
        isinstance(when, Every) and when.phase != "decode" for stage in recipe.stages for when in stage.when
    )


def now(device: torch.device) -> float:
    """Seconds on a clock that has waited for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
