"""Codes of components into bytes and back, component after component, each token's loudness as the context.

    component r: family and scale of its table (`densities.index`); how many low bits are written as is
    shifts [CLASSES]: what is added to the scale where a token is as quiet or loud as its class

    message   symbol of (q + half) >> low for every code, in tables of rows[r, class]
    low       the bits below;  escapes   int32 codes that no table lists, in order

This is the definition; `ops.fast.strips` finds the same codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops import bitstring, densities, energy, entropy
from keyvalise.ops.fast import bitstring as fast
from keyvalise.ops.fast import rans

Codes = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Plan:
    """tables int64 [R];  low uint8 [R];  shifts int64 [CLASSES]."""

    tables: Whole
    low: npt.NDArray[np.uint8]
    shifts: Whole

    @property
    def rows(self) -> npt.NDArray[np.int32]:
        """The table of every component and class [R, CLASSES]."""
        family, scale = np.divmod(self.tables[:, None], densities.SCALES)
        moved = np.clip(scale + self.shifts, 0, densities.SCALES - 1)
        rows: npt.NDArray[np.int32] = densities.index(family, moved).astype(np.int32)
        return rows

    @property
    def expected(self) -> Whole:
        """Mean size of every component's codes in 256ths [R]."""
        return densities.expected()[self.tables] << self.low.astype(np.int64)


@dataclass(frozen=True)
class Packed:
    """What `pack` made: three runs of bytes."""

    message: bytes
    low: bytes
    escapes: bytes


def pack(codes: Codes, plan: Plan) -> Packed:
    """Codes [R, N] as bytes."""
    high, low = _split(codes, plan.low)
    is_far = np.abs(high) > densities.MOST
    symbols = np.where(is_far, densities.ESCAPE, high + densities.MOST).ravel()
    rows = np.take_along_axis(plan.rows, energy.classes(codes, plan.expected).astype(np.int64), 1).ravel()
    # A table lists its likely numbers only.
    is_far = is_far.ravel() | (densities.tables().frequencies[rows, symbols] == 0)
    symbols = np.where(is_far, densities.ESCAPE, symbols)
    widths = np.repeat(plan.low, codes.shape[1])
    message = rans.encode(symbols, rows, densities.tables())
    escapes = codes.ravel()[is_far].astype("<i4").tobytes()
    return Packed(message, fast.pack(low.ravel(), widths), escapes)


def unpack(packed: Packed, plan: Plan, n: int) -> Codes:
    """The codes [R, n] again.

    Raises   ValueError where the bytes do not hold so many codes
    """
    reader = entropy.Reader(packed.message, len(plan.tables) * n, densities.tables())
    low = bitstring.unpack(packed.low, np.repeat(plan.low, n)).reshape(len(plan.tables), n)
    weight, inverse = energy.weights(plan.expected)
    loud, rows = np.full(n, energy.PRIOR), plan.rows
    escapes = np.frombuffer(packed.escapes, "<i4")
    codes = np.zeros((len(plan.tables), n), np.int32)
    at = 0
    for r in range(len(codes)):
        classes = energy.CLASS[np.minimum((loud * inverse[r]) >> energy.SHIFT, 127)]
        symbols = reader.take(rows[r, classes]).astype(np.int32)
        half = (1 << int(plan.low[r])) >> 1
        codes[r] = ((symbols - densities.MOST) << plan.low[r]) + low[r] - half
        is_far = symbols == densities.ESCAPE
        if at + is_far.sum() > len(escapes):
            raise ValueError("codes beyond the tables are missing")
        codes[r, is_far] = escapes[at : at + is_far.sum()]
        at += int(is_far.sum())
        loud = loud + np.minimum(np.abs(codes[r]), energy.LOUDEST) * weight[r]
    reader.finish()
    if at != len(escapes):
        raise ValueError("there are more codes beyond the tables than were asked for")
    return codes


def _split(codes: Codes, low: npt.NDArray[np.uint8]) -> tuple[Codes, Codes]:
    """What the tables write and the bits below it; both tables and bits are centred on 0."""
    width = low.astype(np.int32)[:, None]
    moved = codes + ((1 << width) >> 1)
    high = moved >> width
    return high, moved - (high << width)
