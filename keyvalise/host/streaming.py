"""A document's cache over a link: each chunk as a stream, or computed again from its text.

sender      shelf(cache, tokens).blob → a Server, an HTTP route, anything that answers names with bytes
receiver    receive(link, model, document, controller) → a cache that has read the document
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from keyvalise.host.cache import KVCache
from keyvalise.recipe.object import Recipe
from keyvalise.store.stream import Sheet
from keyvalise.store.stream.coded import CHUNK
from keyvalise.store.stream.controller import Controller
from keyvalise.store.stream.decode import Decoder
from keyvalise.store.stream.fetch import Sent, fetch
from keyvalise.store.stream.link import Link
from keyvalise.store.stream.part import KINDS
from keyvalise.store.stream.shelf import Shelf
from keyvalise.types.errors import InputError


def shelf(cache: KVCache, document: Tensor, chunk: int = CHUNK) -> Shelf:
    """What a sender offers of a cache that has read a document [1, N] and dropped nothing.

    chunk    tokens that are sent together, at a level of their own

    Raises   InputError for several rows or other tokens, or where a layer is the model's own; HostError where
             tokens were dropped
    """
    _check(cache, document)
    ids = document[0].int()
    ordinals = torch.arange(len(ids), dtype=torch.int32)
    layers = enumerate(cache.to_dynamic().layers)
    ropes = cache.shared.ropes
    return Shelf([Sheet(x.keys[0], x.values[0], ordinals, ids, ropes.get(i)) for i, x in layers], chunk=chunk)


def _check(cache: KVCache, document: Tensor) -> None:
    if len(cache.layers) > len(cache.shared.layers):
        raise InputError("a layer of this model keeps a cache of its own kind, which is not sent in chunks")
    if document.ndim != 2 or document.shape[0] != 1 or document.shape[1] != cache.seen:
        raise InputError(
            f"the document must be the [1, {cache.seen}] tokens that the cache has read, got "
            f"{list(document.shape)}"
        )


def receive(
    link: Link, model: Any, document: Tensor, controller: Controller, recipe: str | Recipe = "full"
) -> tuple[KVCache, list[Sent]]:
    """A cache that has read a document [1, N], and how every chunk of it came.

    link    to what `shelf` offers for the same document and model
    recipe  what the cache goes on by; it acts at the end of the document where its scores need no queries

    Raises  InputError where the link breaks or offers another document; DamagedStream; UnmetNeed
    """
    growing = _Growing(model, document)
    _, log = fetch(link, controller, growing)
    read = growing.held.get_seq_length()
    if read != document.shape[1]:
        raise InputError(f"the link offers {read} tokens, the document has {document.shape[1]}")
    return KVCache.from_dynamic(growing.held, model, recipe), log


class _Growing:
    """Transformers' own cache while chunks come, in the order of the document."""

    def __init__(self, model: Any, document: Tensor):
        self.model, self.document = model, document
        self.held = DynamicCache(config=model.config)

    def come(self, chunk: int, decoder: Decoder) -> None:
        for layer in range(decoder.n_layers):
            found = decoder.chunk(layer, chunk)
            keys, values = (found[kind][None].to(self.model.device, self.model.dtype) for kind in KINDS)
            self.held.update(keys, values, layer)

    def compute(self, begin: int, end: int) -> None:
        with torch.no_grad():
            ids = self.document[:, begin:end]
            self.model(ids, past_key_values=self.held, use_cache=True, logits_to_keep=1)
