"""What retaining heads learn from: of every token its own queries, key and value, and how much it was wanted.

A document is read once through a full cache; its questions are then asked with their answers on copies of
it, and the logits that the answers' queries have with the document are the labels. The model is only read.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import answer
from keyvalise.host import model as models
from keyvalise.host.cache import KVCache, detach
from keyvalise.host.retaining import n_inputs
from keyvalise.ops import retain
from keyvalise.reference import tasks
from keyvalise.store.roll import Roll
from keyvalise.types.data import Memory
from keyvalise.types.errors import UnsupportedModel
from keyvalise.types.geometry import Geometry, Rope


@dataclass(frozen=True)
class Lesson:
    """One document: inputs float32 [L, N, I], and labels float32 [L, H, N], pre-softmax logits."""

    inputs: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Page:
    """A document, and the questions about it with their answers, as token ids."""

    document: Tensor
    asked: tuple[tuple[list[int], list[int]], ...]


@contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """The model in evaluation mode and without gradients; afterwards as it was, hooks and attention too.

    Raises   UnsupportedModel where attention does not go through the interface
    """
    config, modes = models.text_config(model), [(one, one.training) for one in model.modules()]
    before = config._attn_implementation
    if models.seam_of(model) != "handle":
        raise UnsupportedModel(
            f"{type(model).__name__} hands no queries to a cache, so nothing can be learned"
        )
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for one, was_training in modes:
            one.training = was_training
        if config._attn_implementation != before:
            detach(model)


@dataclass(frozen=True)
class Reader:
    """Reads pages with a model that is borrowed.

    asks   whether the queries of the questions count too; else only those that lead to the answer
    """

    model: Any
    asks: bool = False

    @cached_property
    def layers(self) -> tuple[int, ...]:
        return models.handled(models.host_layers(self.model))

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry.of(models.text_config(self.model), self.model.dtype, len(self.layers))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(L, I, H): handled layers, numbers per token, kv heads."""
        return len(self.layers), n_inputs(self.geometry), self.geometry.n_kv_heads

    @cached_property
    def ropes(self) -> dict[int, Rope | None]:
        found = {layer: models.rope_of(self.model, self.geometry, layer) for layer in self.layers}
        if any(rope is not None and not rope.is_static for rope in found.values()):
            raise UnsupportedModel(f"{type(self.model).__name__} has rotary angles that change with length")
        device = self.model.device
        return {
            layer: None if rope is None else replace(rope, frequencies=rope.frequencies.to(device))
            for layer, rope in found.items()
        }

    def read(self, page: Page) -> Lesson:
        """The lesson of one page."""
        met: dict[int, Tensor] = {}

        def watch(layer: int, q: Tensor, memory: Memory) -> None:
            met[layer] = q

        cache = KVCache(self.model)
        cache.shared.watch = watch
        cache.prompt_ends(page.document.shape[1])
        self._feed(cache, page.document)
        queries = dict(met)
        held = {layer: Roll.of(_memory(cache, layer)).entries for layer in self.layers}
        keys = {layer: entries.keys().float() for layer, entries in held.items()}
        places = torch.arange(page.document.shape[1], device=self.model.device)[None]
        inputs = [
            retain.features(queries[layer], keys[layer], held[layer].values(), places, self.ropes[layer])[0]
            for layer in self.layers
        ]
        return Lesson(torch.stack(inputs), self._labels(cache, page, keys, met))

    def _labels(self, cache: KVCache, page: Page, keys: dict[int, Tensor], met: dict[int, Tensor]) -> Tensor:
        """Largest logit over all answers' queries and the group's query heads: [L, H, N]."""
        best = [torch.full(keys[layer].shape[1:3], -torch.inf, device=keys[layer].device) for layer in keys]
        for question, said in page.asked:
            self._feed(cache.fork(), torch.tensor([[*question, *said]], device=self.model.device))
            first = 0 if self.asks else len(question) - 1
            for i, layer in enumerate(self.layers):
                env = cache.shared.layers[layer].env
                assert env is not None
                q = met[layer][0, :, first:].float().unflatten(0, (keys[layer].shape[1], -1))
                logits = env.geometry.scale * (q.flatten(1, 2) @ keys[layer][0].transpose(1, 2))
                best[i] = torch.maximum(best[i], logits.amax(1))
        return torch.stack(best)

    def _feed(self, cache: KVCache, ids: Tensor) -> None:
        self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)


def _memory(cache: KVCache, layer: int) -> Memory:
    memory = cache.shared.layers[layer].memory
    assert memory is not None, "the document has been read"
    return memory


def draw(
    model: Any, tokenizer: Any, *, key: str, tokens: Sequence[int], n: int, split: str = "train"
) -> Page:
    """The page that belongs to a key: any task, n of its questions, a length between the two given."""
    rng = random.Random(f"{split} {key}")
    name, kind = rng.choice(tasks.names()), rng.choice(tasks.KINDS)
    size, seed = rng.randint(min(tokens), max(tokens)), rng.randrange(2**31)
    made = tasks.generate(name, tokens=size, seed=seed, split=split, kind=kind)
    pairs = list(zip(made.questions, made.answers, strict=True))
    laid = answer.prompt(model, tokenizer, made.document)

    def ids(said: str) -> list[int]:
        return list(tokenizer(said if laid.after else f" {said}", add_special_tokens=False).input_ids)

    chosen = rng.sample(pairs, min(n, len(pairs)))
    return Page(laid.document, tuple((laid.question(asked), ids(said)) for asked, said in chosen))
