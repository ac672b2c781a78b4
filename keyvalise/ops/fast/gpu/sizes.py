"""How much a program of a kernel takes on, from shapes alone; nothing is tried out at run time.

The figures come from counting registers, shared memory and bytes in flight in what triton 3.9 compiles for
compute capabilities 8.0 and 9.0. No kernel has been timed on a device yet; `bench/gpu.py` does.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

WAVES = 4
"""Programs for every processor of the device, where there are entries enough."""

LEAST = 128
"""Entries of a chunk below which merging its answer costs more than a second processor saves."""

ITEMS = 32
"""Answers of chunks that are merged at once."""

_FEW_ROWS = 4
"""Queries up to which adding products costs less than filling a matrix of sixteen rows."""

_LARGEST_TILE = 8192
"""Numbers of a tile of 16-bit keys or values, or of products: 64 registers for each of 128 threads."""


class Product(IntEnum):
    """How queries meet keys, and weights values.

    SUMS     products in float32, added up
    WIDE     matrix products of float32, each number as three of tf32
    NARROW   matrix products of the stored 16-bit numbers; weights as two or three of them each
    """

    SUMS = 0
    WIDE = 1
    NARROW = 2


class Sizes(NamedTuple):
    """rows of a tile of queries, entries of a tile and of a chunk, and what triton is told beside."""

    rows: int
    block: int
    chunk: int
    product: Product
    warps: int
    stages: int


def decode(n_entries: int, n_rows: int, *, width: int, is_narrow: bool, n_processors: int) -> Sizes:
    """For n_entries of all lists together, n_rows queries of each; `width` of keys or values, the wider."""
    sizes = tiles(n_rows, width=width, is_narrow=is_narrow)
    n_programs = max(1, WAVES * n_processors // -(-n_rows // sizes.rows))
    chunk = max(LEAST, -(-n_entries // n_programs))
    return sizes._replace(chunk=-(-chunk // sizes.block) * sizes.block)


def tiles(n_rows: int, *, width: int, is_narrow: bool) -> Sizes:
    """For n_rows queries that a program asks one tile of entries; a chunk is one tile."""
    if is_narrow:
        product, rows = Product.NARROW, power(n_rows, 16, 64)
        taken = width
    elif n_rows <= _FEW_ROWS:
        product, rows = Product.SUMS, power(n_rows, 1)
        taken = width * rows
    else:
        # Three numbers of tf32 for each of float32 take their room.
        product, rows = Product.WIDE, power(n_rows, 16, 32)
        taken = width * rows // 8
    block = max(16, min(64, _LARGEST_TILE // taken))
    is_large = width > 128
    if is_narrow:
        # What matrix products of many queries take beside leaves no room for a third tile under way.
        stages = 3 if not is_large and rows < 64 else 2
    else:
        stages = 1 if width > 256 else 2
    return Sizes(rows, block, block, product, 8 if is_narrow and is_large else 4, stages)


def power(n: int, least: int = 16, most: int = 2**30) -> int:
    """The power of two that n fits into, between `least` and `most`."""
    return max(least, min(most, 1 << max(0, n - 1).bit_length()))


def lanes(dim: int, bits: int = 8) -> int:
    """Numbers of a tile's row: `dim` channels in 8 // bits planes, each filled up to a power of two."""
    planes = 8 // bits
    return max(16, planes * power(-(-dim * bits // 8), 1))
