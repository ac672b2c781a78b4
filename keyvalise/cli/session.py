"""A document in a cache, and questions about it: what `generate` and `inspect-cache` share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from keyvalise.bench import measure
from keyvalise.cli import inputs
from keyvalise.host import answer
from keyvalise.host.cache import KVCache
from keyvalise.host.store import Store
from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import InputError


class Session:
    """Model, tokenizer and a recipe's text; after `read` also a cache."""

    cache: KVCache
    context: Tensor
    store: Store | None = None

    def __init__(self, model: Any, tokenizer: Any, recipe: str, dtype: torch.dtype, max_new_tokens: int = 32):
        self.model, self.tokenizer, self.dtype = model, tokenizer, dtype
        self.text, self.recipe = recipe, Recipe.parse(recipe)
        self.max_new_tokens = max_new_tokens
        self.questions: dict[str, list[int]] = {}

    def read(
        self,
        text: str,
        questions: Sequence[str] = (),
        store: Store | None = None,
        salt: str = "",
        **options: Any,
    ) -> None:
        """Compress the text, or take it from a store that holds it so; the questions are only counted, so
        that none is refused after the work.
        """
        self._lay(answer.prompt(self.model, self.tokenizer, text), questions)
        self.store = store
        read = answer.read if store is None else partial(store.read, salt=salt)
        self._hold(read(self.model, self.context, self.recipe, dtype=self.dtype, **options))

    def open(self, uri: str, questions: Sequence[str] = (), salt: str = "") -> None:
        """Take a packed cache; its document is not read again.

        Raises   InputError where the file does not say of which one text it is; CacheFileError
        """
        cache = KVCache.load(uri, self.model, tokenizer=self.tokenizer, salt=salt)
        tokens = None if cache.origin is None else cache.origin.tokens
        if tokens is None or len(tokens) != 1:
            raise InputError(f"{uri} does not hold the tokens of one text; pack it with `keyvalise pack`")
        ids = torch.tensor(tokens, device=self.model.device)
        # How questions are laid is the template's business, whatever the document.
        laid = answer.prompt(self.model, self.tokenizer, "-")
        self.recipe, self.text = cache.recipe, str(cache.recipe)
        self.dtype = cache.shared.geometry.dtype
        self._lay(dataclasses.replace(laid, document=ids), questions)
        self._hold(cache)

    def _lay(self, laid: answer.Prompt, questions: Sequence[str]) -> None:
        self.laid, self.context = laid, laid.document
        self.questions = {question: laid.question(question) for question in questions}
        longest = max(map(len, self.questions.values()), default=0)
        inputs.fits(self.model, self.context.shape[1], longest, self.max_new_tokens if questions else 0)

    def _hold(self, cache: KVCache) -> None:
        self.cache = cache
        self.nbytes, self.seen = self.cache.nbytes, self.cache.seen
        ledger = self.cache.ledger()
        self.notes, self.knobs = ledger.notes, ledger.knobs
        self.share = self.nbytes / measure.full_bytes(self.cache)

    def ask(self, questions: Sequence[str]) -> Iterator[tuple[str, str]]:
        """(question, answer) of independent questions, asked together."""
        ids = [self.questions[question] for question in questions]
        found = answer.ask(self.model, self.cache, self.context, ids, max_new_tokens=self.max_new_tokens)
        for question, tokens in zip(questions, found, strict=True):
            yield question, self.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()

    def converse(self, questions: Iterable[str]) -> Iterator[tuple[str, str]]:
        """(question, answer) of questions that follow each other in one cache."""
        lay = self.laid.question
        for question in questions:
            turn, limit = lay(question), self.max_new_tokens
            lay = self.laid.next
            inputs.fits(self.model, self.context.shape[1], len(turn), limit)
            said = answer.converse(self.model, self.cache, self.context, turn, max_new_tokens=limit)
            new = torch.tensor([[*turn, *said]], dtype=self.context.dtype, device=self.context.device)
            self.context = torch.cat([self.context, new], 1)
            yield question, self.tokenizer.decode(list(said), skip_special_tokens=True).strip()

    def facts(self) -> dict[str, Any]:
        """Recipe, tokens and bytes after reading."""
        kept = {} if self.store is None else {"store": self._kept(self.store)}
        return {
            "recipe": self.text,
            "parts": str(self.recipe),
            "dtype": str(self.dtype).removeprefix("torch."),
            "seen": self.seen,
            "nbytes": self.nbytes,
            "share": self.share,
            "knobs": self.knobs,
            "notes": self.notes,
            "tiers": dict(self.cache.shared.slow.held),
            "read_bytes": self.cache.shared.slow.read_bytes,
            **kept,
        }

    @staticmethod
    def _kept(store: Store) -> dict[str, Any]:
        """Where the cache is kept, and whether it was found there."""
        return {"uri": store.shelf.tier.uri, "hits": store.shelf.counts.hits}
