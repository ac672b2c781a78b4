"""Generated documents with questions: what the reference model is trained on and measured with.

    task = generate("needle", tokens=1024, seed=7)
    task.document, task.questions[0], task.answers[0]

A document is lower-case text, one space between tokens; a question is asked by appending a space and the
question to the document, and ends where the answer begins. Held-out documents (the default) use names,
numbers and sentence patterns that training never sees.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from keyvalise.reference.tasks import build, infer, retrieve
from keyvalise.reference.tasks.grammar import SPLITS, Scribe

KINDS = ("sparse", "dense")
LEAST_TOKENS = 128

RECIPES = {
    "needle": build.Recipe(retrieve.needle, retrieve.needle_decoy, 14),
    "multikey": build.Recipe(retrieve.multikey, retrieve.multikey_decoy, 14),
    "multivalue": build.Recipe(retrieve.multivalue, retrieve.multivalue_decoy, 28),
    "multiquery": build.Recipe(retrieve.multiquery, retrieve.multiquery_decoy, 28),
    "records": build.Recipe(retrieve.records, retrieve.records_decoy, 14),
    "copy": build.Recipe(retrieve.copy, retrieve.copy_decoy, 16),
    "override": build.Recipe(infer.override, infer.override_decoy, 12),
    "facts": build.Recipe(infer.facts, infer.override_decoy, 12),
    "variables": build.Recipe(infer.variables, infer.variables_decoy, 26),
    "frequent": build.Recipe(infer.frequent, infer.frequent_decoy, 27),
    "fewshot": build.Recipe(infer.fewshot, infer.fewshot_decoy, 24),
    "choice": build.Recipe(retrieve.choice, retrieve.choice_decoy, 14),
}

DESCRIPTIONS = {
    "needle": "one fact about one name",
    "multikey": "one attribute of a name whose other attribute is contradicted",
    "multivalue": "both values of a fact that is stated twice, in order",
    "multiquery": "the values of two names in one question",
    "records": "the name held by a numbered record",
    "copy": "a note of five to seven words, word for word",
    "override": "a statement that contradicts a fact in the weights",
    "facts": "a fact in the weights, which the document does not mention",
    "variables": "the number of a variable whose value is another variable (two hops)",
    "frequent": "the word that a land calls most often",
    "fewshot": "the label of a thing whose category bears it in the document's examples",
    "choice": "the letter of the right one of four answers",
}


@dataclass(frozen=True)
class Task:
    """One document and the questions it answers; `answers[i]` belongs to `questions[i]`."""

    name: str
    kind: str
    document: str
    questions: tuple[str, ...]
    answers: tuple[str, ...]


def names() -> tuple[str, ...]:
    """All tasks."""
    return tuple(RECIPES)


def generate(name: str, *, tokens: int, seed: int, split: str = "heldout", kind: str = "sparse") -> Task:
    """A document of at most `tokens` reference tokens (the leading <s> included) and its questions.

    Deterministic in all arguments. Raises ValueError for an unknown name, split or kind, or too few tokens.
    """
    _check("task", name, names())
    _check("split", split, SPLITS)
    _check("kind", kind, KINDS)
    if tokens < LEAST_TOKENS:
        raise ValueError(f"a document needs at least {LEAST_TOKENS} tokens, got {tokens}")
    scribe = Scribe(f"{name} {tokens} {seed} {split} {kind}", split, kind)
    page = build.page(RECIPES[name], scribe, tokens - 1)
    asked = [pair for item in page.facts for pair in item.questions]
    return Task(
        name,
        kind,
        " ".join(word for sentence, _ in page.sentences for word in sentence),
        tuple(" ".join(question) for question, _ in asked),
        tuple(" ".join(answer) for _, answer in asked),
    )


def _check(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        near = difflib.get_close_matches(given, known, n=3, cutoff=0.3) or list(known)
        raise ValueError(f"unknown {what} {given!r}; nearest: {', '.join(near)}")
