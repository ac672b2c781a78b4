"""Facts to find again: needles, records and copied notes.

Each task is two functions of a scribe: one makes an item that can be asked, the other a decoy of the same
form that cannot, because the document contradicts itself about it. Word by word the two are alike.
"""

from __future__ import annotations

from keyvalise.reference.tasks import grammar, words
from keyvalise.reference.tasks.grammar import Scribe
from keyvalise.reference.tasks.item import Item


def needle(scribe: Scribe) -> Item:
    """One fact about one name: the code of mira tolan is 47 12."""
    attribute, name, value = scribe.rng.choice(words.ATTRIBUTES), scribe.name(), scribe.number()
    return Item(
        [scribe.state("needle", attribute, name, value)],
        [(scribe.ask("needle", attribute, name), value)],
    )


def needle_decoy(scribe: Scribe) -> Item:
    """One name with two different values: nobody can ask for either."""
    attribute, name = scribe.rng.choice(words.ATTRIBUTES), scribe.name()
    return Item([scribe.state("needle", attribute, name, value) for value in scribe.different(2)])


def multikey(scribe: Scribe) -> Item:
    """A name with two attributes: dense documents ask for both, sparse ones contradict the other."""
    (asked, other), name = scribe.rng.sample(words.ATTRIBUTES, 2), scribe.name()
    right, *wrong = scribe.different(3)
    if scribe.kind == "dense":
        pairs = [(asked, right), (other, wrong[0])]
        sentences = [scribe.state("multikey", one, name, value) for one, value in pairs]
        return Item(sentences, [(scribe.ask("multikey", one, name), value) for one, value in pairs])
    sentences = [scribe.state("multikey", other, name, value) for value in wrong]
    sentences.insert(scribe.rng.randrange(3), scribe.state("multikey", asked, name, right))
    return Item(sentences, [(scribe.ask("multikey", asked, name), right)], n_asked=1)


def multikey_decoy(scribe: Scribe) -> Item:
    """A name with two attributes, both contradicted."""
    attributes, name = scribe.rng.sample(words.ATTRIBUTES, 2), scribe.name()
    return Item([scribe.state("multikey", one, name, scribe.number()) for one in attributes * 2])


def multivalue(scribe: Scribe) -> Item:
    """A fact stated twice with two values; both are asked for, in the order of the document."""
    attribute, name, (first, second) = scribe.rng.choice(words.ATTRIBUTES), scribe.name(), scribe.different(2)
    sentences = [scribe.state("multivalue", attribute, name, value) for value in (first, second)]
    question = scribe.ask("multivalue", attribute, name, lead="both times ,")
    return Item(sentences, [(question, [*first, "then", *second])])


def multivalue_decoy(scribe: Scribe) -> Item:
    """A fact stated three times: it has no two values."""
    attribute, name = scribe.rng.choice(words.ATTRIBUTES), scribe.name()
    return Item([scribe.state("multivalue", attribute, name, value) for value in scribe.different(3)])


def multiquery(scribe: Scribe) -> Item:
    """Two needles asked for in one question, in the order of the question."""
    attribute, (first, second) = scribe.rng.choice(words.ATTRIBUTES), scribe.different(2)
    one, other = scribe.name(), scribe.name()
    sentences = [
        scribe.state("multiquery", attribute, one, first),
        scribe.state("multiquery", attribute, other, second),
    ]
    question = scribe.ask("multiquery", attribute, [*one, "and", *other], lead="together ,")
    swapped = scribe.ask("multiquery", attribute, [*other, "and", *one], lead="together ,")
    return Item(sentences, [(question, [*first, "then", *second]), (swapped, [*second, "then", *first])])


def multiquery_decoy(scribe: Scribe) -> Item:
    """A needle's decoy in the patterns of this task."""
    attribute, name = scribe.rng.choice(words.ATTRIBUTES), scribe.name()
    return Item([scribe.state("multiquery", attribute, name, value) for value in scribe.different(2)])


def choice(scribe: Scribe) -> Item:
    """A needle asked with four lettered answers; the letter is the answer."""
    attribute, name, options = scribe.rng.choice(words.ATTRIBUTES), scribe.name(), scribe.different(4)
    right = scribe.rng.randrange(4)
    listed = [
        word for letter, option in zip(words.LETTERS, options, strict=True) for word in (*option, letter)
    ]
    question = ["question", ":", *listed, "answer", *scribe.ask("choice", attribute, name)[1:]]
    return Item(
        [scribe.state("choice", attribute, name, options[right])], [(question, [words.LETTERS[right]])]
    )


def choice_decoy(scribe: Scribe) -> Item:
    """A needle's decoy in the patterns of this task."""
    attribute, name = scribe.rng.choice(words.ATTRIBUTES), scribe.name()
    return Item([scribe.state("choice", attribute, name, value) for value in scribe.different(2)])


def _record_key(scribe: Scribe) -> list[str]:
    return scribe.fresh(grammar.numbers(scribe.split))


def records(scribe: Scribe) -> Item:
    """A numbered record that holds a name: the record of 47 12 is mira tolan."""
    attribute, key, name = scribe.rng.choice(words.RECORDS), _record_key(scribe), scribe.name()
    return Item(
        [scribe.state("records", attribute, key, name)],
        [(scribe.ask("records", attribute, key), name)],
    )


def records_decoy(scribe: Scribe) -> Item:
    """A record that is given twice, with two names."""
    attribute, key = scribe.rng.choice(words.RECORDS), _record_key(scribe)
    return Item([scribe.state("records", attribute, key, scribe.name()) for _ in range(2)])


def copy(scribe: Scribe) -> Item:
    """A note of five to seven words to be given back whole."""
    attribute, name, passage = scribe.rng.choice(words.NOTES), scribe.name(), _passage(scribe)
    return Item(
        [scribe.state("copy", attribute, name, passage, closing=False)],
        [(scribe.ask("copy", attribute, name), passage)],
    )


def copy_decoy(scribe: Scribe) -> Item:
    """Two different notes of the same name."""
    attribute, name = scribe.rng.choice(words.NOTES), scribe.name()
    return Item([scribe.state("copy", attribute, name, _passage(scribe), closing=False) for _ in range(2)])


def _passage(scribe: Scribe) -> list[str]:
    return scribe.rng.sample(words.NOUNS + words.ADJECTIVES, scribe.rng.randint(5, 7))
