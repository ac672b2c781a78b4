"""Compress a document once, then ask many questions; the compression never sees a question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from keyvalise.host.cache import KVCache
from keyvalise.host.model import text_config
from keyvalise.recipe.object import Recipe
from keyvalise.types.errors import InputError

if TYPE_CHECKING:
    from keyvalise.host.store import Store

_MARK = "\u2063"
"""Stands for what people say while a chat template is laid around it."""


@dataclass(frozen=True)
class Prompt:
    """A document's token ids [1, N], and what turns questions about it into the ids that follow.

    tokenizer   of the model;  after: what a chat template writes behind a question
    between     what it writes between an answer and the next question
    """

    document: Tensor
    tokenizer: Any
    after: str = ""
    between: str = ""

    def question(self, text: str) -> list[int]:
        """The ids of a question that follows the document."""
        return list(self.tokenizer(text + self.after, add_special_tokens=False).input_ids)

    def next(self, text: str) -> list[int]:
        """The ids of a question that follows an answer."""
        return self.question(self.between + text)


def prompt(model: Any, tokenizer: Any, document: str) -> Prompt:
    """Tokenize a document, with the chat template around it where the tokenizer has one.

    Raises   InputError for an empty document or one longer than the model can read
    """
    if not document.strip():
        raise InputError("the document is empty")
    is_chat = bool(getattr(tokenizer, "chat_template", None))
    before, after, between = _laid(tokenizer, document) if is_chat else (document, "", "")
    ids = tokenizer(before, add_special_tokens=not is_chat, return_tensors="pt").input_ids.to(model.device)
    limit = getattr(text_config(model), "max_position_embeddings", None)
    if limit is not None and ids.shape[1] > limit:
        raise InputError(
            f"the document has {ids.shape[1]} tokens, more than the {limit} that the model can read"
        )
    return Prompt(ids, tokenizer, after, between)


def _laid(tokenizer: Any, document: str) -> tuple[str, str, str]:
    """What a chat template writes before a first question, after any, and between an answer and the next."""

    def pieces(*turns: str) -> list[str]:
        roles = ("user", "assistant")
        chat = [{"role": roles[i % 2], "content": turn} for i, turn in enumerate(turns)]
        laid: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return laid.split(_MARK)

    before, after = pieces(f"{document}\n\n{_MARK}")
    return before, after, pieces(_MARK, _MARK, _MARK)[2]


def read(model: Any, document: Tensor, recipe: str | Recipe = "full", **options: Any) -> KVCache:
    """A cache that has read a document [1, N] and nothing else; `options` are those of KVCache.

    Whatever span the recipe is for, it is the document.
    """
    cache = KVCache(model, recipe, **options)
    for name in cache.recipe.spans:
        cache.span(name, 0, document.shape[1])
    cache.prompt_ends(document.shape[1])
    with torch.no_grad():
        model(document, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def ask(
    model: Any,
    cache: KVCache,
    document: Tensor,
    questions: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 32,
) -> list[tuple[int, ...]]:
    """Greedy answers to questions (token ids) as a batch of forks of a cache that has read the document.

    The cache itself stays as it is. Answers end before the model's end token.
    """
    n, width = len(questions), max(len(question) for question in questions)
    pad, ends = _special(model)
    ids = torch.full((n, width), pad, dtype=torch.long)
    mask = torch.zeros((n, width), dtype=torch.long)
    for row, question in enumerate(questions):
        ids[row, width - len(question) :] = torch.tensor(question)
        mask[row, width - len(question) :] = 1
    ids, mask = ids.to(document.device), mask.to(document.device)
    past = torch.ones((n, document.shape[1]), dtype=torch.long, device=document.device)
    out = model.generate(
        torch.cat([document.expand(n, -1), ids], 1),
        attention_mask=torch.cat([past, mask], 1),
        past_key_values=cache.rows(torch.zeros(n, dtype=torch.long)),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
    )
    return [_until(row, ends) for row in out[:, document.shape[1] + width :].tolist()]


def converse(
    model: Any, cache: KVCache, context: Tensor, turn: Sequence[int], *, max_new_tokens: int = 32
) -> tuple[int, ...]:
    """The greedy answer to one more question (token ids) in a cache of one row, where both then stay.

    context   [1, N] all ids so far: what the cache has seen, and the end of the answer before
    """
    pad, ends = _special(model)
    ids = torch.cat([context, torch.tensor([list(turn)], device=context.device)], 1)
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=pad,
    )
    return _until(out[0, ids.shape[1] :].tolist(), ends)


def answer(
    model: Any,
    tokenizer: Any,
    document: str,
    questions: Sequence[str],
    recipe: str | Recipe = "full",
    *,
    max_new_tokens: int = 32,
    store: Store | None = None,
    **options: Any,
) -> list[str]:
    """Compress a document once under a recipe, then answer every question from what was kept.

    store    a `keyvalise.Store`, in which the document is found where it was read before, and kept otherwise
    options  as for KVCache; with a store also `salt`

    Raises   InputError for an empty document, one that is too long, or no question; RecipeError,
             UnsupportedModel
    """
    if isinstance(questions, str) or not questions:
        raise InputError("questions must be a list of at least one text")
    laid = prompt(model, tokenizer, document)
    cache = (read if store is None else store.read)(model, laid.document, recipe, **options)
    asked = [laid.question(question) for question in questions]
    answers = ask(model, cache, laid.document, asked, max_new_tokens=max_new_tokens)
    return [tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in answers]


def _special(model: Any) -> tuple[int, tuple[int, ...]]:
    """(padding id, end ids) of a model's generation settings."""
    end = model.generation_config.eos_token_id
    ends = tuple(end) if isinstance(end, list | tuple) else (() if end is None else (end,))
    pad = model.generation_config.pad_token_id
    return (pad if pad is not None else (ends[0] if ends else 0)), ends


def _until(tokens: Sequence[int], ends: Sequence[int]) -> tuple[int, ...]:
    """The tokens before the first end token."""
    stop = next((i for i, token in enumerate(tokens) if token in ends), len(tokens))
    return tuple(tokens[:stop])
