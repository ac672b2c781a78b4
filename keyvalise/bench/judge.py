"""Right or wrong in one call: all caches answer all questions at once, along the expected answers.

A greedy answer is the expected one if and only if every token of it is the most likely one behind the tokens
before; so the expected answer is fed, and nothing is generated. Every cache has its own rows of one batch and
goes its own course; only the attention is asked cache by cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from keyvalise.host.attention import Handle, MaskInfo, Seam
from keyvalise.host.cache import KVCache
from keyvalise.host.handle import KVLayer

MOST_ROWS = 192
"""Rows of one call."""


@dataclass(frozen=True)
class Exam:
    """A question and the answer that is right, as token ids; the answer ends with the model's end token.

    words   the right answer as text
    """

    question: tuple[int, ...]
    answer: tuple[int, ...]
    words: str

    @property
    def text(self) -> tuple[int, ...]:
        """What is fed: all but the last token, behind which nothing is asked."""
        return (*self.question, *self.answer[:-1])

    def is_passed(self, best: Sequence[int]) -> bool:
        """Whether the most likely token behind each of the text's is the answer's."""
        begin = len(self.question) - 1
        return tuple(best[begin : begin + len(self.answer)]) == self.answer


class RowsLayer(CacheLayerMixin):
    """Gives every cache's layer its own n rows of a call."""

    is_sliding = False
    is_croppable = True
    is_compileable = False

    def __init__(self, layers: Sequence[KVLayer], n: int):
        CacheLayerMixin.__init__(self)
        self.layers, self.n = tuple(layers), n

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """One handle for all rows."""
        for layer in self.layers:
            layer.update(key_states, value_states)
        handle = Handle(self, key_states, value_states)
        return handle, handle

    def attend(self, seam: Seam, mask: MaskInfo) -> Tensor:
        """Every cache answers its rows [n, S, Hq, Dv]."""
        outs = []
        for i, layer in enumerate(self.layers):
            rows = slice(i * self.n, (i + 1) * self.n)
            own = MaskInfo(
                mask.n_queries,
                None if mask.padding is None else mask.padding[rows],
                mask.is_causal,
                {**mask.arguments, "batch_size": self.n},
                mask.make,
            )
            part = replace(
                seam, query=seam.query[rows], keys=seam.keys[rows], values=seam.values[rows], mask=own
            )
            outs.append(layer.attend(part, own))
        return torch.cat(outs)

    def get_seq_length(self) -> int:
        return self.layers[0].get_seq_length()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.layers[0].get_mask_sizes(query_length)

    def get_max_length(self) -> int:
        return -1


def judge(model: Any, caches: Sequence[KVCache], exams: Sequence[Exam]) -> list[tuple[bool, ...]]:
    """Per cache, which exams it passes; the caches have seen the same tokens and stay as they are."""
    step = max(1, MOST_ROWS // max(len(exams), 1))
    return [
        right
        for begin in range(0, len(caches), step)
        for right in _together(model, caches[begin : begin + step], exams)
    ]


def _together(model: Any, caches: Sequence[KVCache], exams: Sequence[Exam]) -> list[tuple[bool, ...]]:
    """One call, padded on the right, so that every token has the position it would have alone."""
    n, seen = len(exams), caches[0].seen
    width = max(len(exam.text) for exam in exams)
    ids = torch.zeros((n, width), dtype=torch.long)
    mask = torch.zeros((n, seen + width), dtype=torch.long)
    mask[:, :seen] = 1
    for row, exam in enumerate(exams):
        ids[row, : len(exam.text)] = torch.tensor(exam.text)
        mask[row, seen : seen + len(exam.text)] = 1
    index = torch.zeros(n, dtype=torch.long)
    forks = [cache.rows(index) for cache in caches]
    layers = [RowsLayer([fork.layers[i] for fork in forks], n) for i in range(len(forks[0].layers))]
    with torch.no_grad():
        logits = model(
            ids.repeat(len(caches), 1).to(model.device),
            attention_mask=mask.repeat(len(caches), 1).to(model.device),
            past_key_values=Cache(layers=layers),
            use_cache=True,
        ).logits
    best = logits.argmax(-1).view(len(caches), n, width).tolist()
    return [tuple(exam.is_passed(row) for exam, row in zip(exams, rows, strict=True)) for rows in best]


def can_judge(cache: KVCache) -> bool:
    """Whether all attention of the model goes through handles, and nothing else is asked of a call."""
    return all(isinstance(layer, KVLayer) for layer in cache.layers) and not cache.recipe.taps
