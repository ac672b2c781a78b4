"""Intervals against published values, and their edges."""

from __future__ import annotations

import math

import pytest

from keyvalise.bench import statistics


@pytest.mark.parametrize(
    ("n_right", "n_all", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_agrees_with_published_values(n_right, n_all, low, high):
    found = statistics.wilson(n_right, n_all)
    assert found.value == n_right / n_all
    assert found.low == pytest.approx(low, abs=6e-5)
    assert found.high == pytest.approx(high, abs=6e-5)


def test_wilson_is_symmetric_and_holds_its_share():
    for n_right in range(8):
        a, b = statistics.wilson(n_right, 7), statistics.wilson(7 - n_right, 7)
        assert a.low == pytest.approx(1 - b.high)
        assert 0 <= a.low <= a.value <= a.high <= 1


@pytest.mark.parametrize(("n_right", "n_all"), [(0, 0), (-1, 3), (4, 3)])
def test_wilson_refuses_what_is_no_share(n_right, n_all):
    with pytest.raises(ValueError, match="cannot make an interval"):
        statistics.wilson(n_right, n_all)


def test_paired_loss_by_hand():
    """10 questions: 4 lost, 1 won: (5 − 2) / 12 ± 1.96 · sqrt((7/12 − (3/12)²) / 12)."""
    base = [True] * 4 + [False] + [True] * 3 + [False] * 2
    other = [False] * 4 + [True] + [True] * 3 + [False] * 2
    found = statistics.paired_loss(base, other)
    half = statistics.Z95 * math.sqrt((7 / 12 - (3 / 12) ** 2) / 12)
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == (pytest.approx(0.25 - half), pytest.approx(0.25 + half))


def test_paired_loss_of_the_same_answers_is_nothing_but_not_certain():
    found = statistics.paired_loss([True, False, True], [True, False, True])
    assert found.value == 0
    assert found.low < 0 < found.high
    assert found.low == pytest.approx(-found.high)


def test_paired_loss_needs_pairs():
    with pytest.raises(ValueError, match="equally many"):
        statistics.paired_loss([True], [True, False])


def test_median():
    assert statistics.median([5.0, 1.0, 3.0]) == 3
    assert statistics.median([4.0, 1.0, 2.0, 3.0]) == 2.5
    assert math.isnan(statistics.median([]))
