"""Floats bit for bit, around a prediction: bins of 2^j that straddle no exponents, and what lies below.

    u = ⌊|x| / 2^j⌋,  q = u, or −u − 1 where the sign bit is set: a whole number next to the prediction's
    low: the bits of the significand below 2^j; where u = 0, the gap from j to the exponent, then the mantissa
    LISTED: infinities, NaN and numbers beyond 2²⁴ bins; they are kept as they are

Two numbers and the low bits give back the same bits, −0, subnormals and all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.unsignedinteger]
Whole = npt.NDArray[np.int32]

MOST_GAP = 24
"""Gaps from here on are written with the exponent itself behind them."""

FAR = 24
"""Bits of a bin's number, from which on a number is listed."""


@dataclass(frozen=True)
class Form:
    """Bits of the mantissa and of the exponent."""

    mantissa: int
    exponent: int

    @property
    def bias(self) -> int:
        return int(2 ** (self.exponent - 1)) - 1

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Unsigned words as wide as the number."""
        return np.dtype(np.uint32 if self.mantissa + self.exponent > 15 else np.uint16)


BFLOAT16, FLOAT16, FLOAT32 = Form(7, 8), Form(10, 5), Form(23, 8)


@dataclass(frozen=True, eq=False)
class Parts:
    """Of words [N]: q, low, widths int32, listed bool [N];  gaps uint8: one per number in bin 0 or −1."""

    q: Whole
    gaps: npt.NDArray[np.uint8]
    low: Whole
    widths: Whole
    listed: npt.NDArray[np.bool_]


def split(words: Words, j: Whole, form: Form) -> Parts:
    """Numbers as bins of 2^j, j [N], and what lies below."""
    sign, field, mantissa = _fields(words, form)
    above = field - form.bias - j
    listed = (field == 2**form.exponent - 1) | (above >= FAR)
    is_small = (above < 0) | (field == 0)
    width = np.clip(form.mantissa - above, 0, form.mantissa)
    whole = mantissa | 1 << form.mantissa
    shift = np.clip(above - form.mantissa, 0, FAR)
    u = np.where(is_small | listed, 0, (whole >> width) << shift)
    gap = np.where(field == 0, MOST_GAP, np.minimum(-above - 1, MOST_GAP))
    low = np.where(is_small, mantissa, whole & ((1 << width) - 1))
    widths = np.where(is_small, form.mantissa, width)
    widths = np.where(listed, 0, widths)
    q = np.where(sign == 1, -u - 1, u)
    small = is_small & ~listed
    return Parts(
        q.astype(np.int32), gap[small].astype(np.uint8), low.astype(np.int32), widths.astype(np.int32), listed
    )


def fields(words: Words, form: Form) -> npt.NDArray[np.uint8]:
    """The exponent fields of numbers."""
    return _fields(words, form)[1].astype(np.uint8)


def widths(q: Whole, j: Whole, listed: npt.NDArray[np.bool_], form: Form) -> Whole:
    """How many low bits each number has, from its bin alone."""
    u = np.where(q < 0, -q - 1, q)
    above = np.frexp(u.astype(np.float64))[1] - 1
    below = np.clip(form.mantissa - above, 0, form.mantissa)
    return np.where(listed, 0, np.where(u == 0, form.mantissa, below)).astype(np.int32)


def join(q: Whole, j: Whole, low: Whole, small: Whole, form: Form) -> Words:
    """The words again.

    small   [N]: the exponent field where u = 0
    """
    sign = (q < 0).astype(np.int64)
    u = np.where(q < 0, -q.astype(np.int64) - 1, q)
    above = np.frexp(np.maximum(u, 1).astype(np.float64))[1] - 1
    below = np.clip(form.mantissa - above, 0, form.mantissa)
    shift = np.clip(above - form.mantissa, 0, FAR)
    mantissa = (((u >> shift) << below) | low) & ((1 << form.mantissa) - 1)
    field = np.where(u == 0, small, above + j + form.bias)
    mantissa = np.where(u == 0, low, mantissa)
    words = sign << (form.mantissa + form.exponent) | field << form.mantissa | mantissa
    return words.astype(form.dtype)


def _fields(
    words: Words, form: Form
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    wide = words.astype(np.int64)
    field = (wide >> form.mantissa) & (2**form.exponent - 1)
    return wide >> (form.mantissa + form.exponent), field, wide & ((1 << form.mantissa) - 1)
