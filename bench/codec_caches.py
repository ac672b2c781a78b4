"""Caches for the bitstream's benchmark, and questions that tell what a coded cache has lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import models
import torch
from torch import Tensor
from transformers import DynamicCache

import keyvalise
from keyvalise.host.model import rope_of
from keyvalise.reference import tasks
from keyvalise.reference.tasks.words import vocabulary
from keyvalise.store.stream import Sheet
from keyvalise.types.geometry import Geometry

TASKS = ("needle", "multikey", "multiquery", "records", "copy", "override", "fewshot", "frequent")
FIRST_SEED = 3_000_000
RANDOM = models.Shape(8, 8, 4, 64, 512)


@dataclass(frozen=True)
class Answers:
    """Per question: whether the right answer is the greedy one, and its negative log-likelihood in nats."""

    right: list[bool]
    nats: list[float]


@dataclass(frozen=True)
class Document:
    """One cache [layers] and the questions about it."""

    name: str
    model: Any
    sheets: list[Sheet]
    questions: list[list[int]]
    answers: list[list[int]]


def reference(tokens: int, per_kind: int, most_questions: int, first: int = 0) -> Iterator[Document]:
    """Held-out documents of both kinds, one task after another."""
    model, _ = keyvalise.reference()
    known = vocabulary()
    for kind in tasks.KINDS:
        for i in range(first, first + per_kind):
            name = TASKS[i % len(TASKS)]
            task = tasks.generate(name, tokens=tokens, seed=FIRST_SEED + i, kind=kind)
            ids = [known["<s>"], *(known[word] for word in task.document.split())]
            asked, wanted = (
                [[known[word] for word in text.split()] for text in texts[:most_questions]]
                for texts in (task.questions, task.answers)
            )
            yield Document(f"{kind} {name}", model, sheets(model, torch.tensor([ids])), asked, wanted)


def random(tokens: int) -> Document:
    """Eight layers of random weights that have read random tokens."""
    model = models.llama(RANDOM)
    return Document("random", model, sheets(model, models.tokens(tokens)), [], [])


def sheets(model: Any, ids: Tensor) -> list[Sheet]:
    """The bf16 cache of a model that has read ids [1, N]."""
    cache, geometry = DynamicCache(config=model.config), Geometry.of(model.config)
    with torch.inference_mode():
        model.model(input_ids=ids, past_key_values=cache)
    ordinals = torch.arange(ids.shape[1], dtype=torch.int32)
    return [
        Sheet(
            x.keys[0].bfloat16(), x.values[0].bfloat16(), ordinals, ids[0].int(), rope_of(model, geometry, i)
        )
        for i, x in enumerate(cache.layers)
    ]


def ask(document: Document, held: Sequence[Sheet]) -> tuple[Answers, list[Tensor]]:
    """Answers from a cache, and the attention's outputs at the tokens of the questions, layer by layer."""
    right = [False] * len(document.questions)
    nats, outputs = [0.0] * len(right), list[Tensor]()
    pairs = list(zip(document.questions, document.answers, strict=True))
    stop = vocabulary()["</s>"]
    for lengths in sorted({(len(question), len(answer)) for question, answer in pairs}):
        own = [i for i, pair in enumerate(pairs) if (len(pair[0]), len(pair[1])) == lengths]
        rows = torch.tensor([[*pairs[i][0], *pairs[i][1], stop] for i in own])
        logits, seen = _forward(document.model, held, rows[:, :-1])
        outputs += seen
        targets = rows[:, lengths[0] :]
        chances = logits[:, lengths[0] - 1 :].log_softmax(-1)
        costs = -chances.gather(-1, targets[..., None])[..., 0].sum(1)
        found = (chances.argmax(-1) == targets).all(1)
        for i, is_right, cost in zip(own, found.tolist(), costs.tolist(), strict=True):
            right[i], nats[i] = is_right, cost
    return Answers(right, nats), outputs


def _forward(model: Any, held: Sequence[Sheet], ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logits of rows that follow the same cache, and every layer's attention output."""
    cache, seen = DynamicCache(config=model.config), list[Tensor]()
    for i, sheet in enumerate(held):
        both = (x.float()[None].expand(len(ids), -1, -1, -1) for x in (sheet.keys, sheet.values))
        cache.update(*both, i)
    hooks = [
        block.self_attn.o_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        for block in model.model.layers
    ]
    try:
        with torch.inference_mode():
            return model(input_ids=ids, past_key_values=cache).logits, seen
    finally:
        for hook in hooks:
            hook.remove()
