"""Integer frequency tables: what an entropy coder and its decoder must agree on to the last unit.

    cumulative  int32 [T, S + 1]: symbol s of table t owns slots cumulative[t, s] … cumulative[t, s + 1] − 1
                of TOTAL; a symbol without slots cannot be written

Knows not   where the statistics come from, nor which coder uses them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

PRECISION = 12
TOTAL = 1 << PRECISION
MOST_SYMBOLS = 256


@dataclass(frozen=True, eq=False)
class Tables:
    """T tables over the same S ≤ 256 symbols."""

    cumulative: npt.NDArray[np.int32]

    @staticmethod
    def of(frequencies: npt.NDArray[np.integer]) -> Tables:
        """Tables [T, S] whose rows sum to TOTAL.

        Raises   ValueError for other sums, negative numbers or more symbols than a byte can name
        """
        wide = np.asarray(frequencies, np.int64)
        if wide.ndim != 2 or wide.shape[1] > MOST_SYMBOLS:
            raise ValueError(f"tables must be [T, S] with S <= {MOST_SYMBOLS}; got {wide.shape}")
        if (wide < 0).any() or (wide.sum(1) != TOTAL).any():
            raise ValueError(f"the frequencies of a table must be whole, not negative and sum to {TOTAL}")
        return Tables(np.pad(wide.cumsum(1), ((0, 0), (1, 0))).astype(np.int32))

    @property
    def frequencies(self) -> npt.NDArray[np.int32]:
        return np.diff(self.cumulative, axis=1)

    @functools.cached_property
    def bits(self) -> npt.NDArray[np.float32]:
        """What a symbol costs [T, S]; infinite where it has no slots."""
        with np.errstate(divide="ignore"):
            return (PRECISION - np.log2(self.frequencies)).astype(np.float32)

    @functools.cached_property
    def slots(self) -> npt.NDArray[np.uint32]:
        """The tables from a decoder's side [T, TOTAL].

        Layout   of slot i: frequency − 1 in bits 0-11, i − the symbol's first slot in 12-23, symbol in 24-31
        """
        n_tables, n_symbols = self.frequencies.shape
        widths = self.frequencies.ravel()
        owner = (np.arange(n_symbols, dtype=np.int64) << 2 * PRECISION) - (
            self.cumulative[:, :-1].astype(np.int64) << PRECISION
        )
        both = np.repeat(owner.ravel() + widths - 1, widths).reshape(n_tables, TOTAL)
        packed = both + (np.arange(TOTAL, dtype=np.int64) << PRECISION)
        return packed.astype(np.uint32)


def normalize(weights: npt.NDArray[np.integer]) -> Integers:
    """Frequencies in proportion to whole weights: at least 1 where the weight is positive, of sum TOTAL.

    Shapes   weights int [T, S] ≥ 0, below 2⁴⁰, each row with at least one positive → int64 [T, S]
    Formula  max(1, ⌊TOTAL · w / Σw⌋); what is left goes to the largest remainders, what is too much is taken
             from the largest frequencies; ties go to the lower symbol
    """
    whole = np.asarray(weights, np.int64)
    total = whole.sum(1, keepdims=True)
    if (total <= 0).any() or ((whole > 0).sum(1) > TOTAL).any():
        raise ValueError("a table needs a positive weight, and no more of them than slots")
    scaled = whole * TOTAL
    shares = np.where(whole > 0, np.maximum(scaled // np.maximum(total, 1), 1), 0)
    left = TOTAL - shares.sum(1, keepdims=True)
    remainder = np.where(shares * total <= scaled, scaled - shares * total, -1)
    order = np.argsort(-remainder, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(whole.shape[1]), whole.shape), 1)
    shares += ranks < left
    for row in np.flatnonzero(left < 0):
        _lower_(shares[row])
    return shares


def _lower_(shares: Integers) -> None:
    """Take from the largest what is too much: lifting the rare ones to 1 may have made it so."""
    while (surplus := int(shares.sum()) - TOTAL) > 0:
        order = np.argsort(-shares, kind="stable")
        shares[order[shares[order] > 1][:surplus]] -= 1


def entropy(symbols: npt.NDArray[np.integer], contexts: npt.NDArray[np.integer], tables: Tables) -> float:
    """Bits that these symbols cost under their tables."""
    return float(tables.bits[contexts, symbols].sum(dtype=np.float64))


def empirical(symbols: npt.NDArray[np.integer], contexts: npt.NDArray[np.integer], n_contexts: int) -> Tables:
    """The tables that suit these symbols best: their own counts; an idle context gets symbol 0."""
    n_symbols = int(symbols.max(initial=0)) + 1
    cells = np.asarray(contexts, np.int64) * n_symbols + symbols
    counts = np.bincount(cells, minlength=n_contexts * n_symbols).reshape(n_contexts, n_symbols)
    counts[counts.sum(1) == 0, 0] = 1
    return Tables.of(normalize(counts))
