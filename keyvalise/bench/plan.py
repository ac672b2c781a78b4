"""What is measured: generated documents and recipe texts, and the key under which a result is found again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import torch

from keyvalise.recipe.object import Recipe
from keyvalise.reference import tasks
from keyvalise.types.errors import InputError, UnknownName
from keyvalise.types.quantity import Budget

FULL = "full"
FIRST_SEED = 2_000_000
"""Seeds from here on are for measuring recipes; no held-out accuracy was taken on them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A generated document and how many of its questions are asked."""

    task: str
    kind: str
    tokens: int
    seed: int
    most_questions: int = 24

    def generate(self) -> tasks.Task:
        """The document with its first questions."""
        task = tasks.generate(self.task, tokens=self.tokens, seed=self.seed, kind=self.kind)
        n = self.most_questions
        return tasks.Task(task.name, task.kind, task.document, task.questions[:n], task.answers[:n])

    def __str__(self) -> str:
        return f"{self.task} {self.kind} {self.tokens} #{self.seed}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How everything is measured; part of every result's key.

    model       name or path as it was given;  dtype: in which raw entries are held
    prefill_chunk, seed   of KVCache;  query_aware: each question is compressed together with the document
    quick       right or wrong only, judged in one call; no texts, errors or speeds
    fit_windows windows take at most a quarter of the budget
    """

    model: str
    dtype: torch.dtype
    seed: int = 0
    prefill_chunk: int | None = None
    query_aware: bool = False
    fit_windows: bool = False
    quick: bool = False
    max_new_tokens: int = 12

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return {**asdict(self), "dtype": str(self.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Plan:
    """Every recipe on every document; the full cache is always the first recipe."""

    documents: tuple[Document, ...]
    texts: tuple[str, ...]
    settings: Settings

    def __len__(self) -> int:
        return len(self.documents) * len(self.texts)

    def cases(self) -> Iterator[tuple[Document, str]]:
        return ((document, text) for document in self.documents for text in self.texts)

    def key(self, document: Document, text: str) -> str:
        """The same for the same measurement, in any run."""
        return json.dumps([asdict(document), text, self.settings.to_dict()], sort_keys=True)


def texts(recipes: Sequence[str], budgets: Sequence[str]) -> tuple[str, ...]:
    """Every recipe at every budget, `full` first; a recipe that names its own budget keeps it.

    Raises   RecipeError for a recipe or budget that cannot be read
    """
    found = {FULL: None}
    for recipe in recipes:
        if "@" in recipe or recipe.strip() == FULL:
            wanted = [recipe]
        else:
            wanted = [f"{recipe} @ {Budget.parse(budget)}" for budget in budgets] or [recipe]
        found |= {" ".join(text.split()): None for text in wanted}
    for text in found:
        Recipe.parse(text)
    return tuple(found)


def documents(
    names: Sequence[str],
    kinds: Sequence[str],
    lengths: Sequence[int],
    seeds: Sequence[int],
    most_questions: int,
) -> tuple[Document, ...]:
    """All tasks × kinds × lengths × seeds.

    Raises   UnknownName for a task or kind; InputError for lengths that hold no document
    """
    for name in names:
        if name not in tasks.names():
            raise UnknownName("task", name, tasks.names())
    for kind in kinds:
        if kind not in tasks.KINDS:
            raise UnknownName("kind of document", kind, tasks.KINDS)
    for length in lengths:
        if length < tasks.LEAST_TOKENS:
            raise InputError(f"a document needs at least {tasks.LEAST_TOKENS} tokens, got {length}")
    return tuple(
        Document(name, kind, length, seed, most_questions)
        for length in lengths
        for name in names
        for kind in kinds
        for seed in seeds
    )
