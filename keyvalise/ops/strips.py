"""Codes of components into bytes and back, component after component, tables chosen by `ops.energy`.

    component r: family and scale of its table (`densities.index`); how many low bits are written as is
    shifts [CLASSES or ALL_CLASSES]: what is added to the scale where a token is of a class

    d         the code, or its difference to that of the token that is echoed, where `energy` says so
    message   symbol of (d + half) >> low for every code, in tables of rows[r, class]
    low       the bits below;  escapes   int32 codes whose symbol no table lists, in order

This is the definition; `ops.fast.strips` finds the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops import bitstring, densities, energy, entropy
from keyvalise.ops.echo import Echo
from keyvalise.ops.fast import bitstring as fast
from keyvalise.ops.fast import rans

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """tables int64 [R];  low uint8 [R];  shifts int64 of all classes, or of the loud ones."""

    tables: Whole
    low: npt.NDArray[np.uint8]
    shifts: Whole

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """The table of every component and class [R, classes]."""
        family, scale = np.divmod(self.tables[:, None], densities.SCALES)
        moved = np.clip(scale + self.shifts, 0, densities.SCALES - 1)
        rows: npt.NDArray[np.int32] = densities.index(family, moved).astype(np.int32)
        return rows

    @property
    def expected(self) -> Whole:
        """Mean size of what is written of every component in 256ths [R]."""
        return densities.expected()[self.tables] << self.low.astype(np.int64)


@dataclass(frozen=True)
class Packed:
    """What `pack` made: three runs of bytes."""

    message: bytes
    low: bytes
    escapes: bytes

    @property
    def nbytes(self) -> int:
        return len(self.message) + len(self.low) + len(self.escapes)


def pack(codes: Codes, plan: Plan, echo: Echo | None = None) -> Packed:
    """Codes [R, N] as bytes."""
    classes, is_echoed = energy.classes(codes, plan.expected, echo)
    high, low = split(differences(codes, is_echoed, echo), plan.low)
    is_far = np.abs(high) > densities.MOST
    symbols = np.where(is_far, densities.ESCAPE, high + densities.MOST).ravel()
    rows = np.take_along_axis(plan.rows, classes.astype(np.int64), 1).ravel()
    # A table lists its likely numbers only.
    is_far = is_far.ravel() | (densities.tables().frequencies[rows, symbols] == 0)
    symbols = np.where(is_far, densities.ESCAPE, symbols)
    widths = np.repeat(plan.low, codes.shape[1])
    message = rans.encode(symbols, rows, densities.tables())
    escapes = codes.ravel()[is_far].astype("<i4").tobytes()
    return Packed(message, fast.pack(low.ravel(), widths), escapes)


def unpack(packed: Packed, plan: Plan, n: int, echo: Echo | None = None) -> Codes:
    """The codes [R, n] again.

    Raises   ValueError where the bytes do not hold so many codes
    """
    reader = entropy.Reader(packed.message, len(plan.tables) * n, densities.tables())
    low = bitstring.unpack(packed.low, np.repeat(plan.low, n)).reshape(len(plan.tables), n)
    escapes, rows = iter(np.frombuffer(packed.escapes, "<i4").tolist()), plan.rows
    codes = np.zeros((len(plan.tables), n), np.int32)
    for r in range(len(codes)):
        # Classes look at components before only, so the zeros that stand for later ones do not matter.
        classes, is_echoed = energy.classes(codes[: r + 1], plan.expected[: r + 1], echo)
        symbols = reader.take(rows[r, classes[r]]).astype(np.int32)
        half = (1 << int(plan.low[r])) >> 1
        for i in range(n):
            near = codes[r, echo.of[i]] if echo is not None and is_echoed[r, i] else 0
            codes[r, i] = near + ((symbols[i] - densities.MOST) << plan.low[r]) + low[r, i] - half
            if symbols[i] == densities.ESCAPE:
                if (code := next(escapes, None)) is None:
                    raise ValueError("codes beyond the tables are missing")
                codes[r, i] = code
    reader.finish()
    if next(escapes, None) is not None:
        raise ValueError("there are more codes beyond the tables than were asked for")
    return codes


def differences(codes: Codes, is_echoed: npt.NDArray[np.bool_], echo: Echo | None) -> Codes:
    """What is written of every code."""
    return codes if echo is None else codes - np.where(is_echoed, codes[:, echo.of], 0)


def split(codes: Codes, low: npt.NDArray[np.uint8]) -> tuple[Codes, Codes]:
    """What the tables write and the bits below it; both tables and bits are centred on 0."""
    width = low.astype(np.int32)[:, None]
    moved = codes + ((1 << width) >> 1)
    high = moved >> width
    return high, moved - (high << width)
