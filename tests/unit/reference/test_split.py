"""Held out means: names, numbers, patterns and contradictions that training never writes."""

import itertools

import pytest

from keyvalise.reference import tasks
from keyvalise.reference.tasks import grammar, stream, words
from keyvalise.reference.tasks.grammar import Scribe


def pairs_in(tokens, left, right):
    return {pair for pair in itertools.pairwise(tokens) if pair[0] in left and pair[1] in right}


def training_words(name, n_sequences=12):
    inverse = {index: word for word, index in words.vocabulary().items()}
    recipes = [(0, tasks.RECIPES[name])]
    for seed in range(n_sequences):
        yield [inverse[index] for index in stream.sample(recipes, 700, f"split {seed}").ids]


@pytest.mark.parametrize("rows", [grammar.names, grammar.numbers])
def test_a_fifth_of_names_and_numbers_is_held_out(rows):
    train, heldout = set(rows("train")), set(rows("heldout"))
    assert not train & heldout
    assert 0.18 < len(heldout) / len(train | heldout) < 0.22


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("patterns", [grammar.patterns, grammar.question_patterns])
def test_patterns_of_every_task_are_split(name, patterns):
    train, heldout = set(patterns(name, "train")), set(patterns(name, "heldout"))
    assert heldout
    assert not train & heldout


@pytest.mark.parametrize("name", tasks.names())
def test_a_fifth_of_the_statement_patterns_is_held_out(name):
    train, heldout = grammar.patterns(name, "train"), grammar.patterns(name, "heldout")
    assert 0.15 < len(heldout) / (len(train) + len(heldout)) < 0.25


@pytest.mark.parametrize("name", tasks.names())
def test_no_name_or_number_is_in_both_splits_of_the_text(name):
    first, last, digits = set(words.FIRST), set(words.LAST), set(words.DIGITS)
    trained = list(training_words(name))
    for kind in tasks.KINDS:
        task = tasks.generate(name, tokens=700, seed=1, kind=kind)
        tokens = task.document.split()
        assert pairs_in(tokens, first, last) <= set(grammar.names("heldout"))
        assert pairs_in(tokens, digits, digits) <= set(grammar.numbers("heldout"))
    for tokens in trained:
        assert not pairs_in(tokens, first, last) & set(grammar.names("heldout"))
        assert not pairs_in(tokens, digits, digits) & set(grammar.numbers("heldout"))


def test_choices_in_context_are_split():
    train, heldout = Scribe("a", "train", "dense"), Scribe("a", "heldout", "dense")
    seen, kept = (
        train.allowed(words.TOWNS, "capital", "norda"),
        heldout.allowed(words.TOWNS, "capital", "norda"),
    )
    assert not set(seen) & set(kept)
    assert set(seen) | set(kept) == set(words.TOWNS)
    assert len(kept) == -(-len(words.TOWNS) // 5)


def test_a_subject_is_used_once_and_runs_out_loudly():
    scribe = Scribe("a", "train", "dense")
    rows = [("one",), ("two",)]
    assert {tuple(scribe.fresh(rows)) for _ in rows} == set(rows)
    with pytest.raises(grammar.Exhausted):
        scribe.fresh(rows)
