"""Sentences: one frame for facts, decoys and much of the filler, with held-out names, numbers and patterns.

    opening  the  attribute  link  subject  copula  value  closing  .
    later ,  the  code       of    mira tolan  is   47 12  at dusk  .

A question is the frame up to the copula, with another opening; the answer is what follows it. Everything that
is drawn here is drawn from one side of the split: a crc of the words puts 20 % of all names, numbers and
patterns on the held-out side. The module knows no task and no length.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Iterable, Sequence
from functools import cache

from keyvalise.reference.tasks import words

Words = list[str]
HELD_OUT = 5
SPLITS = ("train", "heldout")


class Exhausted(Exception):
    """A document wants more distinct subjects than there are; the builder stops adding facts."""


def is_heldout(*parts: str) -> bool:
    """Whether these words, in this order, are kept away from training: one in `HELD_OUT`, by their crc."""
    return zlib.crc32(" ".join(parts).encode()) % HELD_OUT == 0


def _side(rows: Iterable[tuple[str, ...]], split: str, salt: str = "") -> tuple[tuple[str, ...], ...]:
    return tuple(row for row in rows if is_heldout(salt, *row) == (split == "heldout"))


@cache
def names(split: str) -> tuple[tuple[str, ...], ...]:
    """All two-word names of one split."""
    return _side(itertools.product(words.FIRST, words.LAST), split)


@cache
def numbers(split: str) -> tuple[tuple[str, ...], ...]:
    """All two-group numbers of one split."""
    return _side(itertools.product(words.DIGITS, words.DIGITS), split)


@cache
def patterns(task: str, split: str) -> tuple[tuple[str, ...], ...]:
    """The statement patterns (opening, link, copula, closing) of one task on one side of the split."""
    rows = itertools.product(words.OPENINGS, words.LINKS, words.COPULAS, dict.fromkeys(words.CLOSINGS))
    return _side(rows, split, f"state {task}")


@cache
def question_patterns(task: str, split: str) -> tuple[tuple[str, ...], ...]:
    """The question patterns (opening, link, copula) of one task on one side of the split."""
    return _side(itertools.product(words.ASKING, words.LINKS, words.COPULAS), split, f"ask {task}")


@cache
def _ranked(options: tuple[str, ...], context: tuple[str, ...], split: str) -> list[str]:
    order = sorted(options, key=lambda word: zlib.crc32(" ".join((*context, word)).encode()))
    cut = -(-len(options) // HELD_OUT)
    return order[:cut] if split == "heldout" else order[cut:]


class Scribe:
    """Draws words for one document: each subject once, names and numbers of one split only."""

    def __init__(self, seed: str, split: str, kind: str) -> None:
        self.rng = random.Random(seed)
        self.split = split
        self.kind = kind
        self.used: set[tuple[str, ...]] = set()

    def fresh(self, rows: Sequence[tuple[str, ...]]) -> Words:
        """One of `rows` that this document has not used as a subject yet."""
        for _ in range(200):
            row = self.rng.choice(rows)
            if row not in self.used:
                self.used.add(row)
                return list(row)
        raise Exhausted

    def name(self) -> Words:
        """A new subject: a name that nothing else in this document bears."""
        return self.fresh(names(self.split))

    def number(self) -> Words:
        """A number, perhaps seen before."""
        return list(self.rng.choice(numbers(self.split)))

    def different(self, count: int) -> list[Words]:
        """`count` distinct numbers."""
        return [list(row) for row in self.rng.sample(numbers(self.split), count)]

    def allowed(self, options: Sequence[str], *context: str) -> list[str]:
        """The options whose combination with `context` lies on this document's side of the split."""
        return _ranked(tuple(options), context, self.split)

    def state(
        self, task: str, attribute: str, subject: Words, value: Words, *, closing: bool = True
    ) -> Words:
        """One sentence in the common frame, in a pattern of this split."""
        opening, link, copula, end = self.rng.choice(patterns(task, self.split))
        tail = end.split() if closing else []
        return [*opening.split(), "the", attribute, link, *subject, copula, *value, *tail, "."]

    def ask(self, task: str, attribute: str, subject: Words, *, lead: str = "") -> Words:
        """The question whose continuation is the value: a cue in the same frame."""
        opening, link, copula = self.rng.choice(question_patterns(task, self.split))
        return ["question", ":", *opening.split(), *lead.split(), "the", attribute, link, *subject, copula]

    def filler(self) -> Words:
        """A sentence that no question asks about, from the same openings, links, names and numbers."""
        rng = self.rng
        opening, link, copula, end = rng.choice(patterns("filler", self.split))
        name = list(rng.choice(names(self.split)))
        noun, adjective, verb = rng.choice(words.NOUNS), rng.choice(words.ADJECTIVES), rng.choice(words.VERBS)
        place = rng.choice(words.PLACES)
        while tuple(name) in self.used:
            name = list(rng.choice(names(self.split)))
        core = (
            [*name, verb, *self.number(), noun],
            ["the", adjective, noun, link, *name, copula, rng.choice(words.ADJECTIVES)],
            ["the", noun, link, place, copula, *self.number()],
            [*name, verb, "the", adjective, noun, "near", "the", place],
        )[rng.randrange(4)]
        return [*opening.split(), *core, *end.split(), "."]
