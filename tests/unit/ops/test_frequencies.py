"""Frequency tables: exact sums, nothing that occurs is impossible, the same on every machine."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from keyvalise.ops import densities, fitted, frequencies, ladder, located
from keyvalise.ops.frequencies import TOTAL, Tables


@pytest.mark.parametrize("n", [1, 7, 63, 256])
def test_frequencies_sum_up_and_leave_nothing_out(n: int) -> None:
    rng = np.random.default_rng(n)
    weights = rng.integers(0, 2, (7, n)) * rng.integers(1, 10**6, (7, n)) ** 2
    weights[:, n // 2] = 1
    shares = frequencies.normalize(weights)
    assert (shares.sum(1) == TOTAL).all()
    assert ((shares > 0) == (weights > 0)).all()


def test_frequencies_follow_the_weights() -> None:
    weights = np.array([[3, 1, 0, 4096 * 4 - 4]])
    assert frequencies.normalize(weights).tolist() == [[1, 1, 0, 4094]]
    even = np.array([[5, 5, 5]])
    assert frequencies.normalize(even).tolist() == [[1366, 1365, 1365]]


@pytest.mark.parametrize("row", [[TOTAL - 1, 0], [TOTAL + 1, -1], [TOTAL, 1]])
def test_tables_refuse_other_sums(row: list[int]) -> None:
    with pytest.raises(ValueError, match="sum to 4096"):
        Tables.of(np.array([row]))


def test_slots_are_the_tables_from_the_other_side() -> None:
    tables = Tables.of(np.array([[1000, 0, 3096], [4096, 0, 0]]))
    slots = tables.slots.astype(np.int64)
    symbols, widths, places = slots >> 24, (slots & 4095) + 1, (slots >> 12) & 4095
    assert (symbols[0] == np.where(np.arange(TOTAL) < 1000, 0, 2)).all() and not symbols[1].any()
    assert widths[0, 999] == 1000 and places[0, 999] == 999 and places[0, 1000] == 0


@pytest.mark.parametrize("family", range(densities.FAMILIES))
def test_bells_fit_numbers_that_were_drawn_from_them(family: int) -> None:
    rng = np.random.default_rng(family)
    draws = (rng.laplace(size=20_000), rng.logistic(size=20_000), rng.normal(size=20_000))[family]
    for size in (0.3, 1.0, 4.0):
        codes = np.rint(draws * size / np.abs(draws).mean()).astype(np.int64)
        counts = np.bincount(
            codes[np.abs(codes) <= densities.MOST] + densities.MOST, minlength=densities.ESCAPE
        )
        share = counts / counts.sum()
        entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
        prices = fitted.prices()[:, : densities.ESCAPE]
        best = (prices @ counts).min() / counts.sum()
        own = (prices[family * densities.SCALES :][: densities.SCALES] @ counts).min() / counts.sum()
        # A quarter of an octave between scales, and 4096ths, cost less than two hundredths.
        assert entropy <= own <= entropy * 1.02 + 0.01
        assert best <= own


def test_all_tables_list_their_escape() -> None:
    assert densities.tables().frequencies[:, densities.ESCAPE].min() >= 1
    assert located.tables().frequencies[:, located.ESCAPE].min() >= 1
    assert fitted.digit_tables().frequencies.min() >= 1


def test_expected_sizes_are_those_of_the_masses() -> None:
    numbers = np.abs(np.arange(-densities.MOST, densities.MOST + 1))
    want = np.maximum(np.rint(256 * (densities.masses() * numbers).sum(1)), 1)
    assert np.abs(densities.expected() - want).max() <= 1


def test_digits_of_a_bell_are_its_thirds() -> None:
    table = 2 * densities.SCALES + 20
    mass = densities.masses()[table]
    for parent in range(fitted.PARENTS):
        thirds = mass[densities.MOST + 3 * parent - 1 :][: ladder.FACTOR]
        want = TOTAL * thirds / thirds.sum()
        got = fitted.digit_tables().frequencies[table * fitted.PARENTS + parent]
        assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize(
    ("tables", "digest"),
    [
        (densities.tables, "47e694bc543f13b9"),
        (located.tables, "1d2de48ea6b074f1"),
        (fitted.digit_tables, "75cb516a3bf4676e"),
    ],
)
def test_tables_are_the_same_on_every_machine(tables: object, digest: str) -> None:
    """Streams that exist are read with these very tables: another digest means another format."""
    found = hashlib.blake2b(tables().cumulative.astype("<i4").tobytes(), digest_size=8).hexdigest()  # type: ignore[operator]
    assert found == digest
