"""`Store`: caches kept beyond this process, found again by model, recipe, tenant and tokens.

What a key consists of and where bytes lie is `store/keys.py` and `store/tiers/`; how a cache becomes bytes is
`saving.py`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from keyvalise.encode.grouped import GroupedEncode
from keyvalise.host import identity, saving
from keyvalise.host.cache import KVCache
from keyvalise.recipe.object import Recipe
from keyvalise.store import layer as layers
from keyvalise.store.keys import CHUNK, Key
from keyvalise.store.tiers import upkeep
from keyvalise.store.tiers import uri as uris
from keyvalise.store.tiers.shelf import Shelf
from keyvalise.store.tiers.upkeep import Stats
from keyvalise.types.errors import StoreError

Tokens = Sequence[int] | Tensor
"""Token ids, as a list or as a tensor [N] or [1, N]."""


@dataclass(frozen=True)
class Found:
    """A cache that has seen the first `n_tokens` of a request; feed it the others."""

    n_tokens: int
    cache: KVCache


class Store:
    """A place for caches: a folder, object storage, or a Valkey or Redis server.

    uri         a folder, or file:// s3:// gs:// az:// redis:// rediss:// valkey:// unix:// memory://; by
                default $KEYVALISE_STORE, or a folder of the user's
    max_bytes   what is stored never exceeds it, but by one object per process that writes at the moment; the
                longest unused goes first. By default 10 % of what is free, at most 20 GB
    chunk       tokens per chunk: common beginnings are found at its multiples

    Differs  between tenants: what was put under a salt is found, counted and shared under the same salt alone
    Raises   StoreError for an address nobody understands, or whose client is not installed; StoreFailure from
             every method where the place cannot be reached, read or written
    """

    def __init__(
        self,
        uri: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = None,
        chunk: int = CHUNK,
        level: str | None = None,
    ):
        self.uri = uris.default() if uri is None else os.fspath(uri)
        self.shelf, self.level = Shelf(uris.tier(self.uri), max_bytes, chunk), level

    def put(
        self,
        cache: KVCache,
        tokens: Tokens,
        *,
        tokenizer: Any = None,
        salt: str = "",
        adapter: str = "",
        edits: Sequence[str] = (),
    ) -> str:
        """Keep a cache of one row under the tokens that it has seen; what is there already stays.

        salt      whose it is: nobody finds it under another;  adapter, edits: what else the answer depends on
        tokenizer is remembered with it, so that `get` can refuse another

        Returns  the name of the stored object
        Raises   StoreError where the cache has seen other tokens, several rows or padding, or is larger than
                 the bound
        """
        ids = listed(tokens)
        _check_row(cache, len(ids))
        key = _key(cache, salt, adapter, edits, self.level)

        def make() -> bytes:
            # The salt itself is written nowhere.
            told = {"tokenizer": tokenizer, "salt": key.tenant, "edits": tuple(edits)}
            return saving.dumps(cache, tokens=ids, level=self.level, **told)

        about = {"recipe": str(cache.recipe)}
        return self.shelf.put(key, ids, make, is_croppable=is_croppable(cache), about=about)

    def get(
        self, model: Any, tokens: Tokens, recipe: str | Recipe = "full", **options: Any
    ) -> KVCache | None:
        """The cache that has seen exactly these tokens, or None; options as for `longest_prefix`."""
        found = self._find(model, tokens, recipe, is_whole=True, **options)
        return None if found is None else found.cache

    def longest_prefix(
        self, model: Any, tokens: Tokens, recipe: str | Recipe = "full", **options: Any
    ) -> Found | None:
        """A cache of the most tokens with which a request begins, or None.

        Where the recipe drops nothing, any stored context serves up to the last chunk in common; a recipe
        with stages chose what to keep by all it had seen, so it serves requests that begin with all of it.

        options   salt, adapter, edits, tokenizer as for `put`; dtype, prefill_chunk, seed as for KVCache;
                  spans, name → (start, end), where the recipe is for a part of the text (default: all of it)
        """
        return self._find(model, tokens, recipe, **options)

    def _find(
        self,
        model: Any,
        tokens: Tokens,
        recipe: str | Recipe,
        *,
        is_whole: bool = False,
        tokenizer: Any = None,
        salt: str = "",
        adapter: str = "",
        edits: Sequence[str] = (),
        spans: Mapping[str, tuple[int, int]] | None = None,
        **options: Any,
    ) -> Found | None:
        ids = listed(tokens)
        wanted = KVCache(model, recipe, **options)
        for name in wanted.recipe.spans:
            wanted.span(name, *(spans or {}).get(name, (0, len(ids))))
        key = _key(wanted, salt, adapter, edits, self.level)
        hit = self.shelf.longest(key, ids, is_whole=is_whole)
        if hit is None:
            return None
        cache = saving.loads(hit.data, model, tokenizer=tokenizer, salt=key.tenant, edits=key.edits)
        if surplus := hit.record.n_tokens - hit.n_tokens:
            cache.crop(-surplus)
            cache.shared.prompt_columns = None
        return Found(hit.n_tokens, cache)

    def read(
        self, model: Any, document: Tensor, recipe: str | Recipe = "full", *, salt: str = "", **options: Any
    ) -> KVCache:
        """A cache that has read a document [1, N]: from here as far as that changes nothing, the rest by the
        model; then it is kept here.

        options   as for KVCache

        Reduces to   `answer.read` where nothing is found
        """
        recipe = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
        # Behind a beginning that was packed the rest would be read otherwise than in one go.
        is_packed = bool(recipe.stages or recipe.code or recipe.reader)
        found = self._find(model, document, recipe, is_whole=is_packed, salt=salt, **options)
        if found is not None and found.n_tokens == document.shape[1]:
            return found.cache
        cache = KVCache(model, recipe, **options) if found is None else found.cache
        for name in cache.recipe.spans:
            cache.span(name, 0, document.shape[1])
        cache.prompt_ends(document.shape[1])
        with torch.no_grad():
            model(document[:, cache.seen :], past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.put(cache, document, salt=salt)
        return cache

    def stats(self, salt: str | None = None) -> Stats:
        """Objects, bytes and tenants, of all or of one salt; hits, misses and bytes moved by this object."""
        return upkeep.stats(self.shelf, salt)

    def __repr__(self) -> str:
        return f"Store({self.shelf.tier.uri!r})"


def listed(tokens: Tokens) -> list[int]:
    """Token ids as a list.

    Raises   StoreError for a batch of several rows
    """
    if not isinstance(tokens, Tensor):
        return list(tokens)
    if tokens.ndim > 2 or (tokens.ndim == 2 and tokens.shape[0] != 1):
        raise StoreError(f"a context is one row of tokens, got a tensor of shape {list(tokens.shape)}")
    ids: list[int] = tokens.flatten().tolist()
    return ids


def is_croppable(cache: KVCache) -> bool:
    """Whether a crop leaves what the cache would hold, had it seen no more than that.

    Nothing may have been chosen by what came later, no entry coded with later ones or because they came, and
    no layer may be the host's own, whose windows and states cannot go back.
    """
    recipe = cache.recipe
    code = recipe.code
    is_alone = code is None or (isinstance(code, GroupedEncode) and code.residual == 0)
    is_ours = len(cache.layers) == len(cache.shared.layers)
    return not recipe.stages and recipe.budget is None and is_alone and is_ours


def _check_row(cache: KVCache, n_tokens: int) -> None:
    """Raise StoreError unless the cache has seen exactly so many tokens in one row without padding."""
    if cache.seen != n_tokens:
        raise StoreError(
            f"the cache has seen {cache.seen} tokens and {n_tokens} are given; give exactly those it has seen"
        )
    cache.settle()
    memories = [layer.memory for layer in cache.shared.layers.values()]
    clocks = {memory.clock for memory in memories if memory is not None and not layers.is_unread(memory)}
    if n_tokens and clocks != {(n_tokens,)}:
        raise StoreError("a store keeps caches of one row without padding; take one row with cache.rows")


def _key(cache: KVCache, salt: str, adapter: str, edits: Sequence[str], level: str | None = None) -> Key:
    """All that a cache depends on beside its tokens."""
    shared = cache.shared
    model = shared.model()
    if model is None:
        raise StoreError("the model that this cache was made with is gone, so nobody can tell which it was")
    spans = [f"{name} {shared.spans.get(name)}" for name in cache.recipe.spans]
    return Key(
        model=identity.Identity.of(model).key,
        recipe=replace(cache.recipe, name=None).to_json(),
        dtype=str(shared.geometry.dtype).removeprefix("torch."),
        prefill_chunk=shared.prefill_chunk,
        seed=shared.seed,
        assets=tuple(f"{name} {one}" for name, one in sorted(identity.of_assets(shared.fixed).items())),
        spans=tuple(spans),
        salt=salt,
        adapter=adapter,
        edits=tuple(edits),
        layout=identity.LAYOUT,
        level="" if level in (None, "lossless") else str(level),
    )
