"""Whole numbers of differing widths side by side, lowest bit first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.integer]

WIDEST = 24


def size(widths: Whole) -> int:
    """Bytes of numbers of these widths."""
    return -(-int(np.sum(widths, dtype=np.int64)) // 8)


def pack(values: Whole, widths: Whole) -> bytes:
    """The low `widths` bits [n] of values [n], widths ≤ WIDEST."""
    owner, place = _bits(widths)
    bits = (np.asarray(values, np.int64)[owner] >> place) & 1
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def unpack(data: bytes, widths: Whole) -> npt.NDArray[np.int32]:
    """The values again.

    Raises   ValueError where there are too few or too many bytes
    """
    if len(data) != size(widths):
        raise ValueError(f"{len(data)} bytes cannot hold the low bits; they take {size(widths)}")
    owner, place = _bits(widths)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=len(owner), bitorder="little")
    out = np.zeros(len(widths), np.int64)
    np.add.at(out, owner, bits.astype(np.int64) << place)
    return out.astype(np.int32)


def _bits(widths: Whole) -> tuple[Whole, Whole]:
    """Of every bit the number it belongs to and its place in it."""
    widths = np.asarray(widths, np.int64)
    owner = np.repeat(np.arange(len(widths)), widths)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(widths) - widths, widths)
