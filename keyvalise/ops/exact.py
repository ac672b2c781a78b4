"""Numbers bit for bit around their predictions: what a lossy code lost, in bytes.

    x [n] words, p [n] predictions float32, s [n] deviation of x from p as a whole number of quarter octaves
    bin 2^j with j = ⌊s / 4⌋, so that a deviation is one to two bins;  d = bin of x − bin of p

Everything that a reader computes again is made of single float32 operations and whole numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops import bitstring, floats, frequencies, located
from keyvalise.ops.fast import bitstring as fast
from keyvalise.ops.fast import rans
from keyvalise.ops.floats import Form
from keyvalise.ops.frequencies import Tables

Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int32]

QUARTERS = 4
LEAST, MOST = -4 * 120, 4 * 120
"""Of deviations."""

LISTED = 2**31 - 1
"""The escape of a number that is kept as it is."""

_GAPS = floats.MOST_GAP + 1


@dataclass(frozen=True)
class Packed:
    """Runs of bytes;  family of the tables;  n_gaps: numbers next to 0;  listed: words kept as they are."""

    family: int
    n_gaps: int
    message: bytes
    escapes: bytes
    gaps: bytes
    fields: bytes
    low: bytes
    listed: bytes


@dataclass(frozen=True, eq=False)
class Place:
    """Where predictions lie: j, bin and table of every number."""

    j: Whole
    base: Whole
    rows: npt.NDArray[np.int32]

    @staticmethod
    def of(p: Singles, s: Whole, family: int) -> Place:
        """Of predictions p with deviations s."""
        j = s >> 2
        # A sixteenth of a bin is 2^(j − 4); scaling by a power of two is exact.
        fine = np.floor(np.ldexp(p.astype(np.float64), 4 - j))
        fine = np.clip(np.where(np.isnan(fine), 0, fine), -(2.0**30), 2.0**30).astype(np.int64)
        rows = located.index(family, s & 3, fine & 15)
        return Place(j, (fine >> 4).astype(np.int32), rows.astype(np.int32))


def deviation(error: Singles) -> int:
    """The root mean square of errors in quarter octaves."""
    mean = float(np.square(error.astype(np.float64)).mean()) if error.size else 0.0
    if not 0 < mean < np.inf:
        return LEAST
    return int(np.clip(np.rint(QUARTERS * 0.5 * np.log2(mean)), LEAST, MOST))


@functools.cache
def gap_tables() -> Tables:
    """Each octave nearer to zero is half as likely."""
    weights = np.left_shift(np.int64(1), np.arange(_GAPS - 1, -1, -1))
    return Tables.of(frequencies.normalize(weights[None]))


def pack(words: floats.Words, p: Singles, s: Whole, form: Form) -> Packed:
    """Words [n] around predictions."""
    parts = floats.split(words, s >> 2, form)
    sizes = []
    for family in range(3):
        place = Place.of(p, s, family)
        symbols = _symbols(parts.q - place.base, place.rows, parts.listed)
        bits = located.tables().bits[place.rows, symbols]
        sizes.append(
            (float(bits.sum(dtype=np.float64)) + 32 * np.count_nonzero(symbols == located.ESCAPE), family)
        )
    family = min(sizes)[1]
    place = Place.of(p, s, family)
    symbols = _symbols(parts.q - place.base, place.rows, parts.listed)
    far = (symbols == located.ESCAPE) & ~parts.listed
    # A listed number is an escape whose bin is out of reach.
    values = np.where(parts.listed, LISTED, parts.q)[far | parts.listed]
    is_small = ((parts.q == 0) | (parts.q == -1)) & ~parts.listed
    deep = floats.fields(words, form)[is_small][parts.gaps == floats.MOST_GAP]
    return Packed(
        family,
        len(parts.gaps),
        rans.encode(symbols, place.rows, located.tables()),
        values.astype("<i4").tobytes(),
        rans.encode(parts.gaps, np.zeros(len(parts.gaps), np.int32), gap_tables()),
        deep.tobytes(),
        fast.pack(parts.low, parts.widths),
        words[parts.listed].astype(form.dtype.newbyteorder("<")).tobytes(),
    )


def unpack(packed: Packed, p: Singles, s: Whole, form: Form) -> floats.Words:
    """The words again.

    Raises   ValueError where the bytes do not fit the predictions
    """
    place = Place.of(p, s, packed.family)
    symbols = rans.decode(packed.message, place.rows, located.tables())
    q = place.base + (symbols.astype(np.int32) - located.MOST)
    far = np.flatnonzero(symbols == located.ESCAPE)
    q[far] = _exactly(packed.escapes, "<i4", len(far))
    listed = np.zeros(len(p), bool)
    listed[far] = q[far] == LISTED
    q[listed] = 1
    is_small = ((q == 0) | (q == -1)) & ~listed
    small = np.zeros(len(p), np.int32)
    small[is_small] = _small_fields(packed, place.j[is_small], form)
    widths = floats.widths(q, place.j, listed, form)
    if len(packed.low) != bitstring.size(widths):
        raise ValueError("the low bits do not fit the numbers")
    words = floats.join(q, place.j, fast.unpack(packed.low, widths), small, form)
    words[listed] = _exactly(packed.listed, form.dtype.newbyteorder("<").str, int(listed.sum()))
    return words


def _small_fields(packed: Packed, j: Whole, form: Form) -> Whole:
    if len(j) != packed.n_gaps:
        raise ValueError("the numbers next to zero do not fit")
    gaps = rans.decode(packed.gaps, np.zeros(len(j), np.int32), gap_tables())
    field = form.bias + j - 1 - gaps.astype(np.int32)
    deep = gaps == floats.MOST_GAP
    field[deep] = _exactly(packed.fields, "u1", int(deep.sum()))
    if len(field) and not (field.min() >= 0 and field.max() < 2**form.exponent):
        raise ValueError("an exponent lies outside its field")
    return field


def _symbols(d: Whole, rows: npt.NDArray[np.int32], listed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    symbols = np.where((np.abs(d) > located.MOST) | listed, located.ESCAPE, d + located.MOST).astype(np.int64)
    return np.where(located.tables().frequencies[rows, symbols] == 0, located.ESCAPE, symbols)


def run(data: bytes, kind: str) -> npt.NDArray[np.generic]:
    """The numbers of a run of bytes."""
    if len(data) % np.dtype(kind).itemsize:
        raise ValueError("numbers that no table holds are cut off")
    return np.frombuffer(data, kind)


def _exactly(data: bytes, kind: str, n: int) -> npt.NDArray[np.generic]:
    found = run(data, kind)
    if len(found) != n:
        raise ValueError("numbers that no table holds are missing or left over")
    return found
