"""Short rows of whole numbers: each with the table that suits it, or as they are.

    row     table (`densities.index`, or RAW), low bits, symbols and escapes as in `ops.strips`

For what is sent beside the codes: mirrors of a basis, tables of components, sources of rows. Rows may differ
in length; their lengths are known to the reader.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keyvalise.ops import densities, fitted
from keyvalise.ops.fast import bitstring as fast
from keyvalise.ops.fast import rans
from keyvalise.ops.fast import short as fast_short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Whole = npt.NDArray[np.int32]

_WIDEST = 6.0
_MOST_LOW = 20


def write(out: Writer, rows: Sequence[npt.NDArray[np.integer]]) -> None:
    """All rows as one message, behind a table and a count of low bits for each."""
    low = np.array([_low(row) for row in rows], np.int64)
    lengths = [len(row) for row in rows]
    values = np.concatenate([np.zeros(0, np.int64), *rows]).astype(np.int64)
    width = np.repeat(low, lengths)
    moved = values + ((1 << width) >> 1)
    high = moved >> width
    symbols = np.where(np.abs(high) > densities.MOST, densities.ESCAPE, high + densities.MOST)
    owner = np.repeat(np.arange(len(rows)), lengths)
    counts = np.zeros((len(rows), densities.N_SYMBOLS), np.float32)
    np.add.at(counts, (owner, symbols), 1)
    tables = (counts @ fitted.prices().T).argmin(1)
    contexts = tables[owner]
    is_far = densities.tables().frequencies[contexts, symbols] == 0
    is_far |= symbols == densities.ESCAPE
    symbols = np.where(is_far, densities.ESCAPE, symbols)
    out.array(tables, "u1")
    out.array(low, "u1")
    out.blob(rans.encode(symbols, contexts, densities.tables()))
    out.data += fast.pack(moved - (high << width), width)
    out.blob(values[is_far].astype("<i4").tobytes())


def read(data: Reader, lengths: Sequence[int]) -> list[Whole]:
    """The rows again.

    Raises   ValueError where the bytes hold no such rows, mostly DamagedStream
    """
    n_rows = len(lengths)
    tables, low = np.frombuffer(data.take(2 * n_rows), np.uint8).reshape(2, n_rows)
    if n_rows and (tables.max() >= densities.FAMILIES * densities.SCALES or low.max() > _MOST_LOW):
        raise DamagedStream("a row of the stream names a table or a width that does not exist")
    message, sizes = data.blob(), np.array(lengths, np.int64)
    bits, far = data.take(-(-int(low @ sizes) // 8)), data.blob()
    values = fast_short.read(tables, low, sizes, (message, bits, far))
    ends = list(itertools.accumulate(lengths, initial=0))
    return [values[first:end] for first, end in itertools.pairwise(ends)]


def _low(row: npt.NDArray[np.integer]) -> int:
    size = float(np.abs(row.astype(np.float64)).mean()) if len(row) else 0.0
    return int(min(_MOST_LOW, np.ceil(np.log2(max(size / _WIDEST, 1.0)))))
