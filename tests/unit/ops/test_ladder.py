"""Nested bins: coarse codes are parts of fine ones, and errors stay within bins."""

from __future__ import annotations

import numpy as np
import pytest

from keyvalise.ops import anchors, ladder

Y = np.random.default_rng(3).standard_t(3, size=(7, 1300)).astype(np.float32)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_coarse_code_is_what_its_own_step_gives(levels: int) -> None:
    fine = ladder.quantize(Y.astype(np.float64), 0.07)
    coarse = ladder.quantize(Y.astype(np.float64), 0.07 * ladder.FACTOR**levels)
    assert np.array_equal(ladder.coarsen(fine, levels), coarse)


def test_digits_bring_the_next_level() -> None:
    fine = ladder.quantize(Y, 0.05)
    parents = ladder.coarsen(fine, 1)
    digits = ladder.digits(fine, parents)
    assert digits.max() == 2 and np.array_equal(ladder.refine(parents, digits), fine)
    # Away from zero a bell falls, so the digit that points inwards is the likelier one.
    outer = digits[parents != 0]
    assert (outer == 0).mean() > (outer == 2).mean()


def test_numbers_stay_in_their_bins_and_centres_bring_them_nearer() -> None:
    step = 0.5
    codes = ladder.quantize(Y, step)
    middle = ladder.restore(codes, step, (0, 0))
    assert np.abs(middle - Y).max() <= step / 2 * (1 + 1e-5)
    centre = ladder.centres(codes, Y, step)
    moved = ladder.restore(codes, step, centre)
    assert np.square(moved - Y).mean() < np.square(middle - Y).mean()
    assert (np.sign(moved) == np.sign(codes)).all()


def test_differences_to_anchors_come_back() -> None:
    codes = ladder.quantize(Y, 0.3)
    differences = anchors.subtract(codes)
    assert np.array_equal(differences[:, :: anchors.EVERY], codes[:, :: anchors.EVERY])
    assert np.array_equal(anchors.add(differences), codes)
    still = np.repeat(codes[:, :130], anchors.EVERY, 1)
    assert np.count_nonzero(anchors.subtract(still)) == np.count_nonzero(codes[:, :130])
