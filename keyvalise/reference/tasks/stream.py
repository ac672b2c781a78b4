"""Training text: documents of the train split with questions asked inside them or after them, as token ids.

    <s> sentence sentence question : cue answer </s> sentence ... question : cue answer </s>

Each question is about something already written, so one sequence gives many supervised answers. The marks say
which tokens are answers (and their </s>), and of which task; the module knows no model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from keyvalise.reference.tasks import build, words
from keyvalise.reference.tasks.grammar import Exhausted, Scribe
from keyvalise.reference.tasks.item import Item, Words


@dataclass(frozen=True)
class Sample:
    """Token ids of one sequence; for each token, the index of the task it answers, or -1."""

    ids: list[int]
    answers: list[int]


class _Tape:
    def __init__(self) -> None:
        self.vocabulary = words.vocabulary()
        self.ids = [self.vocabulary["<s>"]]
        self.answers = [-1]

    def write(self, sentence: Words, task: int = -1) -> None:
        self.ids += [self.vocabulary[word] for word in sentence]
        self.answers += [task] * len(sentence)

    def ask(self, question: Words, answer: Words, task: int) -> None:
        self.write(question)
        self.write([*answer, "</s>"], task)


def sample(recipes: Sequence[tuple[int, build.Recipe]], tokens: int, seed: str) -> Sample:
    """One training sequence of exactly `tokens` tokens about the given (index, recipe) tasks.

    Every question is asked once: asked again, it could be answered from the answer before.
    """
    rng = random.Random(f"layout {seed}")
    scribe = Scribe(f"train {seed}", "train", rng.choice(("sparse", "dense", "dense")))
    room = tokens * rng.uniform(0.3, 0.85) / len(recipes)
    decoys: list[Item] = []
    facts: list[Item] = []
    owner: dict[int, int] = {}
    for index, recipe in recipes:
        decoys += build.draw_share(recipe.decoy, scribe, tokens * rng.uniform(0, 0.1) / len(recipes))
        drawn = _draw(recipe, scribe, room)
        facts += drawn
        owner |= {id(item): index for item in drawn}
    n_asked = sum(map(_asking_tokens, facts))
    page = build.lay_out(scribe, facts, decoys, tokens - 1 - n_asked)
    return _write(page, owner, rng, scribe, tokens)


def _asking_tokens(item: Item) -> int:
    return sum(len(question) + len(answer) + 1 for question, answer in item.questions)


def _draw(recipe: build.Recipe, scribe: Scribe, room: float) -> list[Item]:
    """Facts until their sentences and questions fill the room; at least one."""
    drawn: list[Item] = []
    try:
        while room > 0 or not drawn:
            drawn.append(recipe.fact(scribe))
            room -= sum(map(len, drawn[-1].sentences)) + _asking_tokens(drawn[-1])
    except Exhausted:
        pass
    return drawn


def _write(
    page: build.Page, owner: dict[int, int], rng: random.Random, scribe: Scribe, tokens: int
) -> Sample:
    tape = _Tape()
    inside = rng.random() < 0.5
    missing = {id(item): len(item.sentences) for item in page.facts}
    ready: list[tuple[Words, Words, int]] = []
    chance = sum(len(item.questions) for item in page.facts) / len(page.sentences)
    for sentence, item in page.sentences:
        tape.write(sentence)
        if item is not None and id(item) in missing:
            missing[id(item)] -= 1
            if not missing[id(item)]:
                ready += [(question, answer, owner[id(item)]) for question, answer in item.questions]
        if inside and ready and rng.random() < chance:
            tape.ask(*ready.pop(rng.randrange(len(ready))))
    rng.shuffle(ready)
    for one in ready:
        tape.ask(*one)
    while len(tape.ids) < tokens:
        tape.write(scribe.filler())
    return Sample(tape.ids[:tokens], tape.answers[:tokens])
