"""The codes of one chunk's keys or values at one rung: alone, or as what a finer rung adds to a coarser one.

    alone      codes of all components, directly or as differences to an anchor token, whichever is smaller
    refining   a digit of three for every code known before, and the codes of components that are new

Knows not   what a component is, nor how wide a bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from keyvalise.ops import anchors, densities, energy, fitted, ladder, strips
from keyvalise.ops.fast import rans
from keyvalise.ops.fast import strips as fast
from keyvalise.store.stream import short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

_BIAS = 8
_DIGITS = ladder.FACTOR
_MOST_LOW = 20


@dataclass(frozen=True, eq=False)
class Coded:
    """codes int32 [R, N];  expected [R]: their mean size in 256ths;  centre as in `ladder.centres`."""

    codes: Codes
    expected: Whole
    centre: tuple[int, int] = (0, 0)
    is_delta: bool = False


def write(out: Writer, codes: Codes, centre: tuple[int, int], parent: Coded | None) -> Coded:
    """Append the codes [R, N], whose first rows refine the parent's; returns what a reader will hold."""
    out.array(np.array(centre), "i1")
    known = 0 if parent is None else len(parent.codes)
    expected, is_delta = np.zeros(0, np.int64), False
    if parent is not None:
        expected = _write_digits(out, codes[:known], parent)
    if parent is None or known < len(codes):
        plan, is_delta = _write_direct(out, codes[known:])
        expected = np.concatenate([expected, plan.expected])
    return Coded(codes, expected, centre, is_delta)


def read(data: Reader, n: int, rank: int, parent: Coded | None) -> Coded:
    """What `write` wrote, of `rank` components of n tokens.

    Raises   DamagedStream
    """
    first, others = (int(c) for c in data.array(2, "i1"))
    known = 0 if parent is None else len(parent.codes)
    if known > rank:
        raise DamagedStream("a finer rung of the stream has fewer components than the one before")
    try:
        found = Coded(np.zeros((0, n), np.int32), np.zeros(0, np.int64))
        if parent is not None:
            found = _read_digits(data, parent)
        if parent is None or known < rank:
            codes, plan = _read_direct(data, rank - known, n)
            both = np.concatenate([found.codes, codes]) if known else codes
            found = Coded(both, np.concatenate([found.expected, plan.expected]))
    except ValueError as flaw:
        if isinstance(flaw, DamagedStream):
            raise
        raise DamagedStream(str(flaw)) from None
    return replace(found, centre=(first, others))


def _write_direct(out: Writer, codes: Codes) -> tuple[strips.Plan, bool]:
    differences = anchors.subtract(codes)
    is_delta = fitted.cost(differences) < fitted.cost(codes)
    chosen = differences if is_delta else codes
    plan = fitted.plan(chosen)
    packed = strips.pack(chosen, plan)
    out.number(int(is_delta))
    short.write(out, [plan.tables, plan.low])
    _write_shifts(out, plan.shifts)
    for run in (packed.message, packed.low, packed.escapes):
        out.blob(run)
    return plan, is_delta


def _read_direct(data: Reader, rank: int, n: int) -> tuple[Codes, strips.Plan]:
    is_delta = data.number(1)
    tables, low = short.read(data, [rank, rank])
    if not _within(tables, densities.FAMILIES * densities.SCALES - 1) or not _within(low, _MOST_LOW):
        raise DamagedStream("a component of the stream names a table that does not exist")
    plan = strips.Plan(tables.astype(np.int64), low.astype(np.uint8), _read_shifts(data))
    packed = strips.Packed(data.blob(), data.blob(), data.blob())
    if len(packed.escapes) % 4:
        raise DamagedStream("codes beyond the tables are cut off")
    codes = fast.unpack(packed, plan, n)
    return (anchors.add(codes) if is_delta else codes), plan


def _write_digits(out: Writer, codes: Codes, parent: Coded) -> Whole:
    digits, sizes = ladder.digits(codes, parent.codes), _sizes(parent.codes)
    symbols = sizes * _DIGITS + digits
    prices = fitted.digit_tables().bits.reshape(-1, fitted.PARENTS * _DIGITS)
    tables = (fitted.histograms(symbols, prices.shape[1]) @ prices.T).argmin(1)
    loud = energy.whole(parent.codes, parent.expected)
    classes = np.broadcast_to(loud, codes.shape)
    plan = strips.Plan(
        tables, np.zeros(len(tables), np.uint8), fitted.shifts(symbols, classes, tables, prices)
    )
    short.write(out, [tables])
    _write_shifts(out, plan.shifts)
    out.blob(rans.encode(digits.ravel(), _rows(plan, loud, sizes), fitted.digit_tables()))
    return _grown(plan, parent)


def _read_digits(data: Reader, parent: Coded) -> Coded:
    (tables,) = short.read(data, [len(parent.codes)])
    if not _within(tables, densities.FAMILIES * densities.SCALES - 1):
        raise DamagedStream("a component of the stream names a table that does not exist")
    plan = strips.Plan(tables.astype(np.int64), np.zeros(len(tables), np.uint8), _read_shifts(data))
    loud = energy.whole(parent.codes, parent.expected)
    rows = _rows(plan, loud, _sizes(parent.codes))
    digits = rans.decode(data.blob(), rows, fitted.digit_tables())
    return Coded(ladder.refine(parent.codes, digits.reshape(parent.codes.shape)), _grown(plan, parent))


def _rows(plan: strips.Plan, loud: npt.NDArray[np.uint8], sizes: Codes) -> npt.NDArray[np.int32]:
    rows: npt.NDArray[np.int32] = plan.rows[:, loud] * fitted.PARENTS + sizes
    return rows.ravel()


def _sizes(parents: Codes) -> Codes:
    return np.minimum(np.abs(parents), fitted.PARENTS - 1)


def _grown(plan: strips.Plan, parent: Coded) -> Whole:
    """Mean sizes one rung on: what the table says, or thrice as much where no table is so wide."""
    is_wide = plan.tables % densities.SCALES == densities.SCALES - 1
    return np.where(is_wide, _DIGITS * parent.expected, plan.expected)


def _write_shifts(out: Writer, shifts: Whole) -> None:
    out.array(shifts[::2] + _BIAS | (shifts[1::2] + _BIAS) << 4, "u1")


def _read_shifts(data: Reader) -> Whole:
    both = data.array(energy.CLASSES // 2, "u1").astype(np.int64)
    return np.stack([both & 15, both >> 4], 1).ravel() - _BIAS


def _within(values: npt.NDArray[np.int32], most: int) -> bool:
    return bool((values >= 0).all() and (values <= most).all())
