"""Composition is the point: two parts go together, or a sentence says why not; few do not."""

from __future__ import annotations

import pytest

from keyvalise.recipe import catalogue
from tools import composition

REFUSED = composition.refused()


def test_at_most_one_pair_in_seven_is_refused() -> None:
    assert len(REFUSED) <= 0.15 * len(composition.pairs())


def test_every_part_goes_with_something() -> None:
    for name in catalogue.parts():
        mine = [pair for pair in composition.pairs() if name in pair]
        assert len(mine) > sum(pair in REFUSED for pair in mine), name


@pytest.mark.parametrize("sentence", sorted(set(REFUSED.values())))
def test_a_refusal_is_one_sentence_that_names_what_is_missing(sentence: str) -> None:
    assert "\n" not in sentence and " needs " in sentence
