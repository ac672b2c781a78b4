"""Arrays of numbers as planes of small symbols, the telling ones first, and back.

turn      how one number becomes an unsigned word: as it is, sign last (floats), folded at 0 (integers),
          as the difference to the row before, folded
symbols   bits of each symbol: bytes, or for single bytes also halves and quarters
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Words = npt.NDArray[np.unsignedinteger]
Planes = npt.NDArray[np.uint8]

PLAIN, SIGN_LAST, FOLDED, DIFFERENCE = range(4)


def turns(kind: np.dtype[np.generic]) -> tuple[int, ...]:
    """What may suit numbers of this numpy type."""
    if kind.kind == "f":
        return (SIGN_LAST,)
    if kind.kind == "u":
        return (PLAIN, DIFFERENCE)
    return (FOLDED, DIFFERENCE)


def widths(kind: np.dtype[np.generic]) -> tuple[int, ...]:
    """Bits that a symbol may have."""
    return (8, 4, 2) if kind.itemsize == 1 else (8,)


def split(x: Array, turn: int, width: int) -> Planes:
    """Symbols uint8 [P, N, C] of numbers [N, C]."""
    unsigned = np.dtype(f"u{x.dtype.itemsize}")
    bits = 8 * x.dtype.itemsize
    words = np.ascontiguousarray(x).view(unsigned)
    if turn == DIFFERENCE:
        words = np.concatenate([words[:1], words[1:] - words[:-1]])
    if turn in (FOLDED, DIFFERENCE):
        negative = (words >> unsigned.type(bits - 1)).astype(bool)
        words = (words << unsigned.type(1)) ^ np.where(negative, unsigned.type(2**bits - 1), unsigned.type(0))
    elif turn == SIGN_LAST:
        words = (words << unsigned.type(1)) | (words >> unsigned.type(bits - 1))
    places = range(bits - width, -1, -width)
    mask = unsigned.type(2**width - 1)
    return np.stack([((words >> unsigned.type(place)) & mask).astype(np.uint8) for place in places])


def join(planes: Planes, turn: int, width: int, kind: np.dtype[np.generic]) -> Array:
    """The numbers again [N, C]."""
    unsigned = np.dtype(f"u{kind.itemsize}")
    bits = 8 * kind.itemsize
    words = np.zeros(planes.shape[1:], unsigned)
    for plane in planes:
        # A shift by all bits of a byte is not defined.
        words = plane.astype(unsigned) if width == bits else (words << unsigned.type(width)) | plane
    if turn in (FOLDED, DIFFERENCE):
        odd = (words & unsigned.type(1)).astype(bool)
        words = (words >> unsigned.type(1)) ^ np.where(odd, unsigned.type(2**bits - 1), unsigned.type(0))
    elif turn == SIGN_LAST:
        words = (words >> unsigned.type(1)) | (words << unsigned.type(bits - 1))
    if turn == DIFFERENCE:
        words = words.cumsum(0, dtype=unsigned)
    numbers: Array = words.view(kind)
    return numbers


NONE, COLUMN, ABOVE, BEFORE, RAW, CONSTANT = range(6)
"""What a symbol's statistics depend on: nothing, its column, the symbol above, the same number's symbol in
the plane before; RAW: it is not coded at all; CONSTANT: it is always the same.
"""

CLASSES = 16
MOST_COLUMNS = 256


def borders(symbols: Planes) -> npt.NDArray[np.uint8]:
    """Fifteen symbols that part all of them into classes of about equal size."""
    counts = np.bincount(symbols.ravel(), minlength=256).cumsum()
    goals = counts[-1] * np.arange(1, CLASSES) / CLASSES
    found: npt.NDArray[np.uint8] = np.searchsorted(counts, goals, "right").clip(0, 255).astype(np.uint8)
    return found


def classes(limits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The class of every symbol [256]."""
    return np.searchsorted(np.sort(limits), np.arange(256), side="left").astype(np.uint8)


def contexts(
    plane: Planes, mode: int, before: Planes | None, limits: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int32]:
    """The context of every symbol [N, C] of a plane."""
    if mode == COLUMN:
        return np.broadcast_to(np.arange(plane.shape[1], dtype=np.int32), plane.shape)
    if mode == NONE:
        return np.zeros(plane.shape, np.int32)
    above = np.concatenate([np.zeros_like(plane[:1]), plane[:-1]])
    near = above if mode == ABOVE or before is None else before
    return classes(limits)[near].astype(np.int32)


def n_contexts(mode: int, columns: int) -> int:
    """How many tables a mode has."""
    return {COLUMN: columns, ABOVE: CLASSES, BEFORE: CLASSES}.get(mode, 1)
