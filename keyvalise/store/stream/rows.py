"""Which entries of a chunk are written and which only say again what an earlier one said.

source [n]   the entry of the same chunk that an entry repeats, or itself: it is written
in the stream: nothing repeats; or a bit for every entry that the ids make a repetition; or, where no ids
are known, a bit for every entry and the rank of what it repeats among those written
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keyvalise.ops import repeats
from keyvalise.store.stream import plain, short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Whole = npt.NDArray[np.int64]

_NONE, _BY_IDS, _LISTED, _AS_BEFORE = range(4)


def within(source: Whole) -> Whole:
    """The sources of a run of entries, counted from its first, given those of the whole sheet [n].

    A leader may lie before the run; then the first of its followers here leads the others.
    """
    return repeats.groups(source[:, None])


def write(sources: list[Whole], groups: Whole | None) -> bytes:
    """The bytes of the sources of keys and values, given the groups that the reader knows."""
    out = Writer()
    for i, source in enumerate(sources):
        places = np.arange(len(source))
        repeated = source != places
        if not repeated.any():
            out.number(_NONE)
        elif i and np.array_equal(source, sources[i - 1]):
            out.number(_AS_BEFORE)
        elif groups is not None and np.array_equal(source[repeated], groups[repeated]):
            out.number(_BY_IDS)
            short.write(out, [~repeated[groups != places]])
        else:
            out.number(_LISTED)
            short.write(out, [~repeated])
            rank = np.cumsum(~repeated) - 1
            plain.write(out, rank[source[repeated]].astype("<u2"))
    return bytes(out.data)


def read(data: bytes, n: int, groups: Whole | None) -> list[Whole]:
    """The sources of keys and values of n entries.

    Raises   ValueError where the bytes hold no such sources, mostly DamagedStream
    """
    reader, found = Reader(data), list[Whole]()
    places = np.arange(n)
    for _ in range(2):
        mode = reader.number(_AS_BEFORE)
        if mode == _AS_BEFORE and found:
            found.append(found[-1])
        elif mode == _NONE:
            found.append(places)
        elif mode == _BY_IDS and groups is not None:
            open_ = groups != places
            (bits,) = short.read(reader, [int(open_.sum())])
            repeated = np.zeros(n, bool)
            repeated[open_] = bits == 0
            found.append(np.where(repeated, groups, places))
        elif mode == _LISTED:
            found.append(_listed(reader, n))
        else:
            raise DamagedStream("the stream repeats entries in a way that it cannot")
    reader.finish()
    return found


def _listed(reader: Reader, n: int) -> Whole:
    (bits,) = short.read(reader, [n])
    repeated = bits == 0
    written = np.flatnonzero(~repeated)
    ranks = plain.read(reader, (int(repeated.sum()),), np.dtype("<u2")).astype(np.int64)
    if len(ranks) and (not len(written) or ranks.max() >= len(written)):
        raise DamagedStream("an entry of the stream repeats one that does not exist")
    source = np.arange(n)
    source[repeated] = written[ranks]
    return source
