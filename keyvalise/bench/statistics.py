"""Intervals for counts of right answers; nothing here draws random numbers.

Questions of one document are not independent of each other; the intervals take them as if they were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(n_right: int, n_all: int) -> Interval:
    """The share n_right / n_all with Wilson's score interval.

    Raises   ValueError unless 0 ≤ n_right ≤ n_all and n_all > 0
    """
    if n_all < 1 or not 0 <= n_right <= n_all:
        raise ValueError(f"cannot make an interval of {n_right} right answers of {n_all}")
    share, z2 = n_right / n_all, Z95 * Z95
    middle = (share + z2 / (2 * n_all)) / (1 + z2 / n_all)
    half = Z95 * math.sqrt(share * (1 - share) / n_all + z2 / (4 * n_all * n_all)) / (1 + z2 / n_all)
    # At the ends the bound is the share itself; rounding must not push it past.
    low = 0.0 if n_right == 0 else middle - half
    high = 1.0 if n_right == n_all else middle + half
    return Interval(share, low, high)


def paired_loss(base: Sequence[bool], other: Sequence[bool]) -> Interval:
    """How much smaller the share of right answers became, base − other, asked the same questions.

    Formula   b = base right and other wrong, c = the reverse, n = all
              value = (b − c) / n;  interval: Wald's with one more in b, one more in c, two more in n
    Paper     Bonett and Price 2012, adjusted Wald interval for paired shares
    Raises    ValueError for no questions, or lists of different length
    """
    if not base or len(base) != len(other):
        raise ValueError(
            f"paired answers must be equally many and at least one, got {len(base)} and {len(other)}"
        )
    n = len(base)
    lost = sum(a and not b for a, b in zip(base, other, strict=True))
    won = sum(b and not a for a, b in zip(base, other, strict=True))
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    middle = p_lost - p_won
    half = Z95 * math.sqrt((p_lost + p_won - middle * middle) / (n + 2))
    return Interval((lost - won) / n, max(-1.0, middle - half), min(1.0, middle + half))


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle; NaN of nothing."""
    ordered = sorted(values)
    n = len(ordered)
    return math.nan if n == 0 else (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
