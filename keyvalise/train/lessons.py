"""What gates are taught with: long texts with needles, their questions and answers at the end.

    pages       generated documents of the training split, in the reference model's own words
    passkeys    any long text with passkeys of random words, for any tokenizer

A lesson is a function of the seed and the step alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from keyvalise.host import answer
from keyvalise.host.model import text_config
from keyvalise.reference import tasks
from keyvalise.types.errors import InputError

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
WORDS = (
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey xray yankee zulu"
).split()
PASSKEY = 32
"""Words of a passkey."""

DEPTHS = 1000
"""Places in the text where a needle may stand, from 5 % to 95 % of it."""

POINTS = 50
"""Lengths between the shortest and the longest."""


@dataclass(frozen=True)
class Lesson:
    """ids int64 [1, S]; bool [1, S]: labels on questions and answers, answers on the latter alone."""

    ids: Tensor
    labels: Tensor
    answers: Tensor


Lessons = Callable[[int], Lesson]


@dataclass
class _Tape:
    ids: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)

    def write(self, ids: Sequence[int], mark: int = 0) -> None:
        self.ids += ids
        self.marks += [mark] * len(ids)

    def lesson(self, model: Any) -> Lesson:
        limit = getattr(text_config(model), "max_position_embeddings", None)
        if limit is not None and len(self.ids) > limit:
            raise InputError(
                f"a lesson has {len(self.ids)} tokens, more than the {limit} that the model can read; "
                "make --lengths shorter"
            )
        marks = torch.tensor([self.marks], device=model.device)
        return Lesson(torch.tensor([self.ids], device=model.device), marks > 0, marks > 1)


def length(rng: random.Random, lengths: tuple[int, int]) -> int:
    """One of the points between the shortest and the longest."""
    shortest, longest = lengths
    return shortest + (longest - shortest) * rng.randrange(POINTS) // (POINTS - 1)


def pages(
    model: Any, tokenizer: Any, names: Sequence[str], lengths: tuple[int, int], *, n: int = 10, seed: int = 0
) -> Lessons:
    """Dense documents of `lengths` reference tokens with at most n of their questions, in random order."""
    end = tokenizer.eos_token_id

    def lesson(step: int) -> Lesson:
        rng = random.Random(f"page {seed} {step}")
        name, tokens = rng.choice(list(names)), length(rng, lengths)
        made = tasks.generate(name, tokens=tokens, seed=rng.randrange(10**9), split="train", kind="dense")
        laid = answer.prompt(model, tokenizer, made.document)
        tape = _Tape()
        tape.write(laid.document[0].tolist())
        asked = list(zip(made.questions, made.answers, strict=True))
        for question, said in rng.sample(asked, min(n, len(asked))):
            tape.write(laid.question(question), 1)
            tape.write(tokenizer(said, add_special_tokens=False).input_ids, 2)
            tape.write([] if end is None else [end], 1)
        return tape.lesson(model)

    return lesson


def passkeys(
    model: Any, tokenizer: Any, text: str, lengths: tuple[int, int], *, n: int = 10, seed: int = 0
) -> Lessons:
    """`lengths` tokens of a text from a random place on, with n passkeys between its sentences.

    Raises   InputError for more needles than ordinals, or a text shorter than the longest lesson
    """
    if not 1 <= n <= len(ORDINALS):
        raise InputError(f"a lesson holds 1 to {len(ORDINALS)} passkeys, got {n}")

    def ids(words: str) -> list[int]:
        return list(tokenizer(words, add_special_tokens=False).input_ids)

    sentences = [ids(f" {sentence.strip()}.") for sentence in text.split(".") if sentence.strip()]
    held = sum(map(len, sentences))
    if held < lengths[1]:
        raise InputError(
            f"the text has {held} tokens, fewer than a lesson of {lengths[1]}; give a longer one"
        )
    start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def lesson(step: int) -> Lesson:
        rng = random.Random(f"passkeys {seed} {step}")
        keys = [" ".join(rng.choice(WORDS) for _ in range(PASSKEY)) for _ in range(n)]
        needles = [ids(f" The {o} passkey is {key}.") for o, key in zip(ORDINALS, keys, strict=False)]
        room = length(rng, lengths) - sum(map(len, needles))
        tape = _Tape()
        tape.write(start)
        for sentence in _laid(rng, _window(rng, sentences, room), needles):
            tape.write(sentence)
        for ordinal, key in rng.sample(list(zip(ORDINALS, keys, strict=False)), n):
            tape.write(ids(f" What is the {ordinal} passkey? The {ordinal} passkey is"), 1)
            tape.write(ids(f" {key}"), 2)
            tape.write(ids("."), 1)
        return tape.lesson(model)

    return lesson


def _window(rng: random.Random, sentences: Sequence[list[int]], room: int) -> list[list[int]]:
    """Sentences that follow one another from a random one on, round the end, with about `room` tokens."""
    place, found = rng.randrange(len(sentences)), []
    while room > 0:
        found.append(sentences[place % len(sentences)])
        room -= len(found[-1])
        place += 1
    return found


def _laid(rng: random.Random, sentences: list[list[int]], needles: list[list[int]]) -> list[list[int]]:
    """The sentences with the needles between them, each at a random depth."""
    depths = [0.05 + 0.9 * rng.randrange(DEPTHS) / (DEPTHS - 1) for _ in needles]
    # The deepest first, so that one does not move another's place.
    for depth, needle in sorted(zip(depths, needles, strict=True), reverse=True):
        sentences.insert(round(depth * len(sentences)), needle)
    return sentences


def haystack(tokens: int, seed: int = 0) -> str:
    """Generated text of the training split: at least `tokens` words, a full stop behind every sentence."""
    parts: list[str] = []
    while sum(len(part.split()) for part in parts) < tokens:
        made = tasks.generate("needle", tokens=2048, seed=seed + len(parts), split="train")
        parts.append(made.document)
    return " ".join(parts)


def right(model: Any, lesson: Lesson) -> float:
    """The share of answer tokens that the model itself would say next."""
    with torch.no_grad():
        said = model(lesson.ids, use_cache=False).logits.argmax(-1)[:, :-1]
    is_answer = lesson.answers[:, 1:]
    return float((said == lesson.ids[:, 1:])[is_answer].float().mean())


LEAST_RIGHT = 0.3


def must_retrieve(model: Any, lessons: Lessons, n: int = 4) -> float:
    """The share of right answer tokens in n lessons.

    Raises   InputError where the model cannot tell what stands in its context: gates would mean nothing
    """
    share = sum(right(model, lessons(-1 - i)) for i in range(n)) / n
    if share < LEAST_RIGHT:
        raise InputError(
            f"the model says {share:.0%} of the answers' tokens rightly: it retrieves nothing that gates "
            "could be learned from; give shorter --lengths or another model"
        )
    return share
