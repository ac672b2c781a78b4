"""The codes of one chunk's keys or values at one rung: alone, or as what a finer rung adds to a coarser one.

    alone      codes of all components, directly, as differences to an anchor token, or to the token that each
               one echoes, whichever is smallest
    refining   a digit of three for every code known before, and the codes of components that are new

Knows not   what a component is, nor how wide a bin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from keyvalise.ops import anchors, densities, energy, fitted, ladder, strips
from keyvalise.ops.echo import Echo
from keyvalise.ops.fast import rans
from keyvalise.ops.fast import strips as fast
from keyvalise.store.stream import short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

_WORTH = 1.01
_DIRECT, _DELTA, _ECHOED = range(3)
"""How codes stand alone: as they are, as differences to anchors, as differences to what they echo."""

_DIGITS = ladder.FACTOR
_MOST_LOW = 20
_LAST_TABLE = densities.FAMILIES * densities.SCALES - 1


@dataclass(frozen=True, eq=False)
class Coded:
    """codes int32 [R, N];  expected [R]: their mean size in 256ths;  centre as in `ladder.centres`."""

    codes: Codes
    expected: Whole
    centre: tuple[int, int] = (0, 0)
    is_delta: bool = False


def write(
    out: Writer, codes: Codes, centre: tuple[int, int], parent: Coded | None, echo: Echo | None = None
) -> Coded:
    """Append the codes [R, N], whose first rows refine the parent's; returns what a reader will hold.

    echo   which tokens foretell which, known to the reader as well
    """
    out.array(np.array(centre), "i1")
    known = 0 if parent is None else len(parent.codes)
    expected, is_delta = np.zeros(0, np.int64), False
    if parent is not None:
        expected = _write_digits(out, codes[:known], parent)
    if parent is None or known < len(codes):
        plan, is_delta = _write_direct(out, codes[known:], echo)
        expected = np.concatenate([expected, plan.expected])
    return Coded(codes, expected, centre, is_delta)


def read(data: Reader, n: int, rank: int, parent: Coded | None, echo: Echo | None = None) -> Coded:
    """What `write` wrote, of `rank` components of n tokens.

    Raises   ValueError where the bytes hold no such codes, mostly DamagedStream
    """
    first, others = (int(c) for c in data.array(2, "i1"))
    known = 0 if parent is None else len(parent.codes)
    found = Coded(np.zeros((0, n), np.int32), np.zeros(0, np.int64))
    if parent is not None:
        found = _read_digits(data, parent)
    if parent is None or known < rank:
        codes, plan = _read_direct(data, rank - known, n, echo)
        both = np.concatenate([found.codes, codes]) if known else codes
        found = Coded(both, np.concatenate([found.expected, plan.expected]))
    return replace(found, centre=(first, others))


def _write_direct(out: Writer, codes: Codes, echo: Echo | None) -> tuple[strips.Plan, bool]:
    differences = anchors.subtract(codes)
    forms = {
        _DIRECT: (codes, None),
        _DELTA: (differences, None) if fitted.cost(differences) < fitted.cost(codes) else None,
        _ECHOED: (codes, echo) if echo is not None and (echo.of >= 0).any() else None,
    }
    plans = {name: (fitted.plan(*form), *form) for name, form in forms.items() if form is not None}
    runs = {name: strips.pack(chosen, plan, near) for name, (plan, chosen, near) in plans.items()}
    # Echoes take longer to follow, so they must be worth it.
    form = min(runs, key=lambda name: runs[name].nbytes * (_WORTH if name == _ECHOED else 1))
    plan, packed = plans[form][0], runs[form]
    out.number(form)
    short.write(out, [plan.tables, plan.low, plan.shifts])
    for run in (packed.message, packed.low, packed.escapes):
        out.blob(run)
    return plan, form == _DELTA


def _read_direct(data: Reader, rank: int, n: int, echo: Echo | None) -> tuple[Codes, strips.Plan]:
    form = data.number(_ECHOED)
    if form == _ECHOED and echo is None:
        raise DamagedStream("codes of the stream echo tokens whose ids it does not have")
    n_classes = energy.ALL_CLASSES if form == _ECHOED else energy.CLASSES
    tables, low, shifts = short.read(data, [rank, rank, n_classes])
    tables, low = _within(tables, "table", _LAST_TABLE), _within(low, "width", _MOST_LOW)
    plan = strips.Plan(tables.astype(np.int64), low.astype(np.uint8), _bounded(shifts))
    packed = strips.Packed(data.blob(), data.blob(), data.blob())
    if len(packed.escapes) % 4:
        raise DamagedStream("codes beyond the tables are cut off")
    codes = fast.unpack(packed, plan, n, echo if form == _ECHOED else None)
    return (anchors.add(codes) if form == _DELTA else codes), plan


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
    short.write(out, [tables, plan.shifts])
    out.blob(rans.encode(digits.ravel(), _rows(plan, loud, sizes), fitted.digit_tables()))
    return _grown(plan, parent)


def _read_digits(data: Reader, parent: Coded) -> Coded:
    tables, shifts = short.read(data, [len(parent.codes), energy.CLASSES])
    tables = _within(tables, "table", _LAST_TABLE)
    plan = strips.Plan(tables.astype(np.int64), np.zeros(len(tables), np.uint8), _bounded(shifts))
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


def _bounded(shifts: npt.NDArray[np.int32]) -> Whole:
    """Any shift leads to some table."""
    return np.clip(shifts, -densities.SCALES, densities.SCALES).astype(np.int64)


def _within(values: npt.NDArray[np.int32], what: str, most: int) -> npt.NDArray[np.int32]:
    """The values themselves, if all of them are there to be named."""
    if len(beyond := values[(values < 0) | (values > most)]):
        raise DamagedStream(f"{what} {beyond[0]} of a component of the stream is not among 0 to {most}")
    return values
