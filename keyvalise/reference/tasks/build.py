"""From items to a document: how many facts, how many decoys, where they stand, and filler up to the length.

A *sparse* document can be asked about at most 3 % of its tokens, a *dense* one about 25 % or more. Facts,
decoys and filler get uniform positions; sentences of one item keep their order. The module does not know what
is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyvalise.reference.tasks.grammar import Exhausted, Scribe
from keyvalise.reference.tasks.item import Item, Words

SPARSE_SHARE = 0.03
DENSE_SHARE = 0.42
DECOY_SHARE = 0.10
LONGEST_FILLER = 14


@dataclass(frozen=True)
class Recipe:
    """One task: what makes its facts and decoys, and the most tokens that one fact can have."""

    fact: Callable[[Scribe], Item]
    decoy: Callable[[Scribe], Item]
    longest: int


@dataclass(frozen=True)
class Page:
    """A document as sentences in order, each with the item it belongs to (None: filler)."""

    sentences: list[tuple[Words, Item | None]]
    facts: list[Item]

    @property
    def asked_share(self) -> float:
        """Tokens that can be asked over all tokens."""
        total = sum(len(sentence) for sentence, _ in self.sentences)
        return sum(item.asked_tokens for item in self.facts) / total


def draw_facts(recipe: Recipe, scribe: Scribe, tokens: int) -> list[Item]:
    """As many facts as the kind of document holds; at least one."""
    if scribe.kind == "sparse":
        count = max(1, int(SPARSE_SHARE * tokens) // recipe.longest)
        return [recipe.fact(scribe) for _ in range(count)]
    return draw_share(recipe.fact, scribe, DENSE_SHARE * tokens)


def draw_share(make: Callable[[Scribe], Item], scribe: Scribe, tokens: float) -> list[Item]:
    """Items until their sentences hold `tokens` tokens, or until there are no more subjects."""
    items: list[Item] = []
    held = 0
    while held < tokens:
        try:
            items.append(make(scribe))
        except Exhausted:
            break
        held += items[-1].asked_tokens or sum(map(len, items[-1].sentences))
    return items


def lay_out(scribe: Scribe, facts: list[Item], decoys: list[Item], tokens: int) -> Page:
    """Spread the items uniformly, fill up with filler to at most `tokens` tokens."""
    keyed: list[tuple[float, Words, Item | None]] = []
    for item in [*facts, *decoys]:
        places = sorted(scribe.rng.random() for _ in item.sentences)
        keyed += [(place, sentence, item) for place, sentence in zip(places, item.sentences, strict=True)]
    left = tokens - sum(len(sentence) for _, sentence, _ in keyed)
    while left >= LONGEST_FILLER:
        sentence = scribe.filler()
        keyed.append((scribe.rng.random(), sentence, None))
        left -= len(sentence)
    for sentence in (scribe.filler() for _ in range(20)):
        if len(sentence) <= left:
            keyed.append((scribe.rng.random(), sentence, None))
            break
    keyed.sort(key=lambda row: row[0])
    return Page([(sentence, item) for _, sentence, item in keyed], facts)


def page(recipe: Recipe, scribe: Scribe, tokens: int) -> Page:
    """A whole document of one task."""
    decoys = draw_share(recipe.decoy, scribe, DECOY_SHARE * tokens)
    facts = draw_facts(recipe, scribe, tokens)
    return lay_out(scribe, facts, decoys, tokens)
