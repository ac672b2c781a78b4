"""Any array of numbers, bit for bit: codes, scales, positions, log-weights, whatever a segment holds.

Every plane of symbols gets the context that makes it smallest, tables included, or stays as it is. Nothing is
known about the numbers but their type and that the last axis is one of columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from keyvalise.ops import frequencies, planes
from keyvalise.ops.fast import planes as fast
from keyvalise.ops.fast import rans
from keyvalise.ops.frequencies import Tables
from keyvalise.store.stream import short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Array = npt.NDArray[np.generic]

_LISTED, _RUN, _RAW = 4, 5, 6
"""Beside the turns of `planes`: the distinct numbers and places in their list; a run; bytes as they are."""

_MOST_LISTED = 2**15
_TINY = 128
_ENVELOPE = 100
"""Bits around every coded plane, about."""

_STEPS = 4
_ROOT = float(np.sqrt(np.sqrt(2.0)))
_SCALE = tuple(int(64 * 2 ** (k // _STEPS) * _ROOT ** (k % _STEPS) + 0.5) for k in range(13 * _STEPS + 1))
"""Frequencies are sent as these, a quarter of an octave apart: 64 is the rarest."""


def write(out: Writer, x: Array) -> None:
    """Append an array; its type and shape are known to the reader."""
    table = _table(x)
    if run := _run(x):
        out.blob(run)
        return
    forms = [_raw(x)]
    if x.nbytes > _TINY:
        forms += [
            _written(table, turn, width) for turn in planes.turns(x.dtype) for width in planes.widths(x.dtype)
        ]
        forms += _listed(table)
    out.blob(min(forms, key=len))


def _raw(x: Array) -> bytes:
    out = Writer()
    out.number(_RAW)
    return bytes(out.data) + np.ascontiguousarray(x).tobytes()


def _run(x: Array) -> bytes | None:
    """Whole numbers that follow one another."""
    flat = x.ravel()
    if x.dtype.kind != "i" or x.size < 2 or (np.diff(flat) != 1).any():
        return None
    out = Writer()
    out.number(_RUN)
    out.array(flat[:1], "<i8")
    return bytes(out.data)


def read(data: Reader, shape: tuple[int, ...], kind: np.dtype[np.generic]) -> Array:
    """The array again.

    Raises   ValueError where the bytes hold no such array, mostly DamagedStream
    """
    source = Reader(data.blob())
    found = _read(source, _table(np.empty(shape, kind)).shape, kind, _RAW)
    source.finish()
    return found.reshape(shape)


def _listed(table: Array) -> list[bytes]:
    """Numbers that are few as a list of them and the place of each in it."""
    words = np.ascontiguousarray(table).view(f"<u{table.itemsize}")
    known, places = np.unique(words, return_inverse=True)
    if not 1 < len(known) <= min(_MOST_LISTED, table.size // 2):
        return []
    out = Writer()
    out.number(_LISTED)
    out.number(len(known))
    out.data += _written(known.reshape(-1, 1), planes.DIFFERENCE, 8)
    out.data += _written(places.reshape(table.shape).astype(_place(len(known))), planes.PLAIN, 8)
    return [bytes(out.data)]


def _place(n: int) -> np.dtype[np.generic]:
    return np.dtype("<u1" if n <= 256 else "<u2")


def _read(source: Reader, shape: tuple[int, ...], kind: np.dtype[np.generic], most: int) -> Array:
    turn = source.number(most)
    if turn == _RAW:
        return np.array(source.array(int(np.prod(shape)), kind.str)).reshape(shape)
    if turn == _RUN:
        first = int(source.array(1, "<i8")[0])
        with np.errstate(over="ignore"):
            run: Array = (np.arange(np.prod(shape), dtype=kind) + np.int64(first).astype(kind)).reshape(shape)
            return run
    if turn == _LISTED:
        n = source.number(_MOST_LISTED)
        known = _read(source, (n, 1), np.dtype(f"<u{kind.itemsize}"), planes.DIFFERENCE).ravel()
        places = _read(source, shape, _place(n), planes.DIFFERENCE)
        if places.size and int(places.max()) >= n:
            raise DamagedStream("an array of the stream names a number that its list lacks")
        numbers: Array = known[places].view(kind)
        return numbers
    width = source.number(8)
    if width not in planes.widths(kind):
        raise DamagedStream("an array of the stream is split in an impossible way")
    found = np.zeros((8 * kind.itemsize // width, *shape), np.uint8)
    for i in range(len(found)):
        found[i] = _read_plane(source, found[i - 1])
        if (found[i] >> (width - 1) >> 1).any():
            raise DamagedStream("an array of the stream has symbols that are too large")
    return planes.join(found, turn, width, kind)


def _table(x: Array) -> Array:
    """Rows and columns: the last axis, and everything before it."""
    return x.reshape(-1, x.shape[-1]) if x.ndim > 1 and x.shape[-1] else x.reshape(-1, 1)


def _written(table: Array, turn: int, width: int) -> bytes:
    symbols = planes.split(table, turn, width)
    out = Writer()
    out.number(turn)
    out.number(width)
    for i, plane in enumerate(symbols):
        before = symbols[i - 1] if i else None
        _write_plane(out, plane, before)
    return bytes(out.data)


def _write_plane(out: Writer, plane: npt.NDArray[np.uint8], before: npt.NDArray[np.uint8] | None) -> None:
    """The cheapest of all modes, by its very bytes where an estimate says that it may pay."""
    if plane.size and plane.min() == plane.max():
        out.number(planes.CONSTANT)
        out.number(int(plane.flat[0]))
        return
    near = {planes.ABOVE: plane, planes.BEFORE: plane if before is None else before}
    costs = {}
    for mode in (planes.NONE, planes.COLUMN, planes.ABOVE, planes.BEFORE):
        if mode == planes.COLUMN and not 1 < plane.shape[1] <= planes.MOST_COLUMNS:
            continue
        if mode == planes.BEFORE and before is None:
            continue
        limits = planes.borders(near.get(mode, plane))
        contexts = planes.contexts(plane, mode, before, limits)
        costs[mode] = _cost(plane, contexts, planes.n_contexts(mode, plane.shape[1])), limits, contexts
    mode = min(costs, key=lambda mode: costs[mode][0])
    cost, limits, contexts = costs[mode]
    if cost >= 8 * plane.size:
        out.number(planes.RAW)
        out.data += plane.tobytes()
        return
    out.number(mode)
    if mode in near:
        out.array(limits, "u1")
    tables = _write_tables(out, plane, contexts, planes.n_contexts(mode, plane.shape[1]))
    out.blob(rans.encode(plane.ravel(), contexts.ravel(), tables))


def _cost(plane: npt.NDArray[np.uint8], contexts: npt.NDArray[np.int32], n: int) -> float:
    """Bits of the symbols and, roughly, of their tables."""
    counts = _counts(plane, contexts, n).astype(np.float64)
    total = np.maximum(counts.sum(1, keepdims=True), 1)
    bits = -(counts * np.log2(np.maximum(counts, 1e-9) / total)).sum()
    used = np.count_nonzero(counts)
    share = used / max(counts.size, 1)
    mask = -counts.size * sum(p * np.log2(p) for p in (share, 1 - share) if p > 0)
    return float(bits + mask + 4.5 * used + _ENVELOPE)


def _counts(plane: npt.NDArray[np.uint8], contexts: npt.NDArray[np.int32], n: int) -> npt.NDArray[np.int64]:
    size = int(plane.max(initial=0)) + 1
    cells = contexts.astype(np.int64) * size + plane
    return np.bincount(cells.ravel(), minlength=n * size).reshape(n, size)


def _write_tables(
    out: Writer, plane: npt.NDArray[np.uint8], contexts: npt.NDArray[np.int32], n: int
) -> Tables:
    counts = _counts(plane, contexts, n)
    share = frequencies.normalize(np.where(counts.sum(1, keepdims=True) > 0, counts, 1))
    steps = np.where(counts > 0, np.rint(_STEPS * np.log2(np.maximum(share, 1))).astype(np.int64) + 1, 0)
    steps[counts.sum(1) == 0, 0] = 1
    out.number(steps.shape[1])
    is_used = steps > 0
    middle = int(np.median(steps[is_used]))
    out.number(middle)
    short.write(out, [is_used.ravel().astype(np.int64)])
    short.write(out, [steps[is_used] - middle])
    return _tables(steps)


def _tables(steps: npt.NDArray[np.integer]) -> Tables:
    weights = np.array((0, *_SCALE))[steps]
    return Tables.of(frequencies.normalize(weights))


def _read_plane(source: Reader, before: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    mode = source.number(planes.CONSTANT)
    if mode == planes.CONSTANT:
        return np.full(before.shape, source.number(255), np.uint8)
    if mode == planes.RAW:
        return source.array(before.size, "u1").reshape(before.shape).astype(np.uint8)
    is_near = mode in (planes.ABOVE, planes.BEFORE)
    limits = source.array(planes.CLASSES - 1, "u1") if is_near else np.zeros(planes.CLASSES - 1)
    n, size = planes.n_contexts(mode, before.shape[1]), source.number(frequencies.MOST_SYMBOLS)
    middle = source.number(len(_SCALE))
    (mask,) = short.read(source, [n * size])
    is_used = mask > 0
    (values,) = short.read(source, [int(is_used.sum())])
    steps = np.zeros((n, size), np.int64)
    steps[is_used.reshape(n, size)] = values.astype(np.int64) + middle
    if not size or (steps < 0).any() or (steps > len(_SCALE)).any() or not (steps > 0).any(1).all():
        raise DamagedStream("a table of the stream makes no sense")
    return fast.read(source.blob(), _tables(steps), mode, limits.astype(np.uint8), before)
