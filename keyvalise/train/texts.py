"""What codebooks and projections are trained on: generated documents of the training split, or a user's text.

A text is a function of its number alone, so that an interrupted training goes on with the right one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import answer
from keyvalise.host.model import text_config
from keyvalise.reference import tasks
from keyvalise.train import lessons
from keyvalise.train.rlkv import TASKS
from keyvalise.types.errors import InputError

LENGTHS = (512, 4096)
"""Tokens of a generated document, and at most of a window of a user's text: positions that codes will
serve.
"""

LEAST = 64
"""Tokens that a user's text must have."""


@dataclass(frozen=True)
class Texts:
    """n texts as token ids int64 [1, T], by number.

    facts   what the header of a product says of them, plain JSON
    """

    n: int
    ids: Callable[[int], Tensor]
    facts: Mapping[str, Any]


def generated(model: Any, tokenizer: Any, tokens: int, seed: int = 0) -> Texts:
    """Documents of the training split with a question behind each, `tokens` tokens or a little more."""
    longest = min(LENGTHS[1], _limit(model) // 2)
    lengths = min(LENGTHS[0], longest), longest
    n, total = 0, 0
    while total < tokens:
        total += lessons.length(_draws(seed, n), lengths)
        n += 1

    def ids(number: int) -> Tensor:
        rng = _draws(seed, number)
        size = max(tasks.LEAST_TOKENS, lessons.length(rng, lengths))
        kind, name = rng.choice(tasks.KINDS), rng.choice(TASKS)
        page = tasks.generate(name, tokens=size, seed=rng.randrange(10**9), split="train", kind=kind)
        laid = answer.prompt(model, tokenizer, page.document)
        asked = laid.question(rng.choice(page.questions))
        whole = torch.cat([laid.document, torch.tensor([asked], device=model.device)], 1)
        return whole[:, : _limit(model)]

    facts = {"split": "train", "texts": "generated", "documents": n, "lengths": list(lengths), "seed": seed}
    return Texts(n, ids, facts)


def of_user(model: Any, tokenizer: Any, texts: Mapping[str, str], tokens: int) -> Texts:
    """Windows of a user's texts (name → text), one behind the other, until there are `tokens` tokens.

    Raises   InputError for texts that are too short to learn from
    """
    length = min(LENGTHS[1], _limit(model))
    windows: list[Tensor] = []
    for text in texts.values():
        ids = torch.tensor([tokenizer(text).input_ids], device=model.device)
        windows += [part for part in ids.split(length, 1) if part.shape[1] >= LEAST]
    if not windows:
        raise InputError(f"the texts {', '.join(texts)} have fewer than {LEAST} tokens; give longer ones")
    sizes = torch.tensor([window.shape[1] for window in windows]).cumsum(0)
    windows = windows[: int((sizes < tokens).sum()) + 1]
    content = hashlib.sha256("\n".join(texts.values()).encode()).hexdigest()
    named = {"split": "user", "texts": sorted(texts), "text_sha256": content}
    return Texts(
        len(windows),
        windows.__getitem__,
        {**named, "documents": len(windows), "lengths": [length, length]},
    )


def _draws(seed: int, number: int) -> random.Random:
    return random.Random(f"calibrate {seed} {number}")


def _limit(model: Any) -> int:
    return int(getattr(text_config(model), "max_position_embeddings", None) or 2 * LENGTHS[1])
