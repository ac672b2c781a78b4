"""Answers that no sentence states alone: two-hop variables, frequent words, facts in weights, few-shot.

As in `retrieve`, each task is an item that can be asked and a decoy of the same form that cannot.
"""

from __future__ import annotations

from collections.abc import Sequence

from keyvalise.reference.tasks import words
from keyvalise.reference.tasks.grammar import Scribe
from keyvalise.reference.tasks.item import Item


def _variable(scribe: Scribe, attribute: str, options: Sequence[str] = words.VARIABLES) -> list[str]:
    return scribe.fresh([(attribute, word) for word in options])[1:]


def variables(scribe: Scribe) -> Item:
    """One variable has the value of another, and that one has a number: two hops."""
    attribute, value = scribe.rng.choice(words.VALUES), scribe.number()
    source = _variable(scribe, attribute)
    target = _variable(scribe, attribute, scribe.allowed(words.VARIABLES, *source))
    sentences = [
        scribe.state("variables", attribute, source, value),
        scribe.state("variables", attribute, target, source),
    ]
    scribe.rng.shuffle(sentences)
    return Item(sentences, [(scribe.ask("variables", attribute, target), value)])


def variables_decoy(scribe: Scribe) -> Item:
    """A variable with two numbers, and one that is twice said to have its value."""
    attribute = scribe.rng.choice(words.VALUES)
    source, target = _variable(scribe, attribute), _variable(scribe, attribute)
    sentences = [scribe.state("variables", attribute, source, value) for value in scribe.different(2)]
    sentences += [scribe.state("variables", attribute, target, source) for _ in range(2)]
    scribe.rng.shuffle(sentences)
    return Item(sentences)


def _land(scribe: Scribe, attributes: tuple[str, ...]) -> tuple[str, list[str]]:
    attribute, land = scribe.fresh([(one, land) for one in attributes for land in words.LANDS])
    return attribute, [land]


def frequent(scribe: Scribe) -> Item:
    """The word that a land calls most often: at least twice as often as the other."""
    attribute, land = _land(scribe, words.CALLS)
    n_top = 2 if scribe.kind == "sparse" else scribe.rng.randint(2, 4)
    top, *rest = scribe.rng.sample(scribe.allowed(words.LABELS, attribute, *land), 2)
    called = [top] * n_top + rest * max(1, n_top // 2)
    scribe.rng.shuffle(called)
    sentences = [scribe.state("frequent", attribute, land, [word], closing=False) for word in called]
    return Item(sentences, [(scribe.ask("frequent", attribute, land, lead="most often ,"), [top])])


def frequent_decoy(scribe: Scribe) -> Item:
    """Two words called equally often."""
    attribute, land = _land(scribe, words.CALLS)
    called = scribe.rng.sample(scribe.allowed(words.LABELS, attribute, *land), 2) * scribe.rng.randint(1, 2)
    return Item([scribe.state("frequent", attribute, land, [word], closing=False) for word in called])


def _other_town(scribe: Scribe, attribute: str, land: list[str]) -> list[str]:
    towns = scribe.allowed(words.TOWNS, attribute, *land)
    return [scribe.rng.choice([town for town in towns if town != words.stored_facts()[attribute, land[0]]])]


def override(scribe: Scribe) -> Item:
    """The document contradicts a fact that the weights hold; the document is right."""
    attribute, land = _land(scribe, words.STORED)
    town = _other_town(scribe, attribute, land)
    return Item(
        [scribe.state("override", attribute, land, town)],
        [(scribe.ask("override", attribute, land), town)],
    )


def override_decoy(scribe: Scribe) -> Item:
    """A land about which the document says two things."""
    attribute, land = _land(scribe, words.STORED)
    towns = scribe.rng.sample(scribe.allowed(words.TOWNS, attribute, *land), 2)
    return Item([scribe.state("override", attribute, land, [town]) for town in towns])


def facts(scribe: Scribe) -> Item:
    """A fact that only the weights hold, in a document that contradicts another one."""
    attribute, land = _land(scribe, words.STORED)
    item = override(scribe)
    return Item(
        item.sentences, [(scribe.ask("facts", attribute, land), [words.stored_facts()[attribute, land[0]]])]
    )


def fewshot(scribe: Scribe) -> Item:
    """Things of one category bear one label; asked is a thing of it that the document never names."""
    rng = scribe.rng
    rows = [(sign, str(index)) for sign in words.SIGNS for index in range(len(words.CATEGORIES))]
    sign, index = scribe.fresh(rows)
    things = rng.sample(words.CATEGORIES[int(index)], 10)
    label = [rng.choice(scribe.allowed(words.LABELS, sign, index))]
    n_shown = rng.randint(1, 2) if scribe.kind == "sparse" else rng.randint(2, 5)
    sentences = [scribe.state("fewshot", sign, [thing], label) for thing in things[:n_shown]]
    return Item(
        sentences, [(scribe.ask("fewshot", sign, [thing]), label) for thing in things[n_shown : n_shown + 2]]
    )


def fewshot_decoy(scribe: Scribe) -> Item:
    """A category whose things bear two labels."""
    rows = [(sign, str(index)) for sign in words.SIGNS for index in range(len(words.CATEGORIES))]
    sign, index = scribe.fresh(rows)
    things = scribe.rng.sample(words.CATEGORIES[int(index)], 2)
    labels = scribe.rng.sample(scribe.allowed(words.LABELS, sign, index), 2)
    return Item(
        [scribe.state("fewshot", sign, [one], [label]) for one, label in zip(things, labels, strict=True)]
    )
