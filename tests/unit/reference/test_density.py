"""Sparse and dense documents, uniform positions, and facts that look like decoys."""

import numpy as np
import pytest

from keyvalise.reference import tasks
from keyvalise.reference.tasks import build, words
from keyvalise.reference.tasks.grammar import Scribe

ASKED = [name for name in tasks.names() if name != "facts"]


def pages(name, kind, tokens, count):
    for seed in range(count):
        yield build.page(tasks.RECIPES[name], Scribe(f"{name} {seed}", "heldout", kind), tokens)


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("tokens", [1023, 4095])
def test_at_most_three_percent_of_a_sparse_document_can_be_asked(name, tokens):
    assert max(page.asked_share for page in pages(name, "sparse", tokens, 20)) <= 0.03


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("tokens", [511, 1023, 4095])
def test_at_least_a_quarter_of_a_dense_document_can_be_asked(name, tokens):
    assert min(page.asked_share for page in pages(name, "dense", tokens, 5)) >= 0.25


def test_a_dense_document_of_1k_holds_32_records():
    assert min(len(page.facts) for page in pages("records", "dense", 1023, 20)) >= 32


@pytest.mark.parametrize("name", ["needle", "records", "multivalue"])
def test_asked_positions_are_uniform(name):
    places = []
    for page in pages(name, "dense", 1023, 60):
        facts = {id(item) for item in page.facts}
        marks = [index for index, (_, item) in enumerate(page.sentences) if id(item) in facts]
        places += [(index + 0.5) / len(page.sentences) for index in marks]
    counts, _ = np.histogram(places, bins=10, range=(0, 1))
    expected = len(places) / 10
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected)


def sentences(name, kind, count):
    """Bags of tokens of asked sentences (1) and of their decoys (0), by document."""
    known = words.vocabulary()
    bags, labels = [], []
    for page in pages(name, kind, 1023, count):
        facts = {id(item) for item in page.facts}
        rows = [(sentence, id(item) in facts) for sentence, item in page.sentences if item is not None]
        for sentence, asked in rows:
            bag = np.zeros(len(known))
            np.add.at(bag, [known[word] for word in sentence], 1.0)
            bags.append(bag)
            labels.append(asked)
    return np.array(bags), np.array(labels)


def balanced(bags, labels, rng):
    least = min(labels.sum(), (~labels).sum())
    chosen = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == side))[:least] for side in (True, False)]
    )
    return bags[chosen], labels[chosen]


def probe_accuracy(train, test, steps=150, rate=0.5, decay=1e-2):
    """Accuracy of a logistic regression on token counts, trained on other documents."""
    bags, labels = train
    weights = np.zeros(bags.shape[1])
    for _ in range(steps):
        wrong = 1 / (1 + np.exp(-bags @ weights)) - labels
        weights -= rate * (bags.T @ wrong / len(bags) + decay * weights)
    return float(((test[0] @ weights > 0) == test[1]).mean())


@pytest.mark.parametrize("name", ASKED)
def test_a_linear_probe_cannot_tell_facts_from_decoys(name):
    rng = np.random.default_rng(0)
    bags, labels = sentences(name, "dense", 150)
    cut = len(labels) * 2 // 3
    train, test = (balanced(bags[side], labels[side], rng) for side in (slice(cut), slice(cut, None)))
    assert probe_accuracy(train, test) <= 0.55


def test_the_probe_finds_a_marker():
    rng = np.random.default_rng(0)
    bags, labels = sentences("needle", "dense", 30)
    bags[labels, 7] += 1
    assert probe_accuracy(balanced(bags, labels, rng), balanced(bags, labels, rng)) > 0.9
