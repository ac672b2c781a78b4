"""What a kernel is told, in a few named tuples; a field that is None takes its share of the kernel away."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from keyvalise.ops.fast.gpu import sizes
from keyvalise.types.written import Codewords, Integers, Written


class Turn(NamedTuple):
    """How far keys are turned: int32 positions of all entries, and what `types.geometry.Rope` says."""

    positions: Tensor
    frequencies: Tensor
    scaling: float


class Words(NamedTuple):
    """What names stand for: float16 books [H, pieces, 256, size], lengths of entries, how far they turn."""

    books: Tensor
    lengths: Tensor | None
    turn: Turn | None


class Side(NamedTuple):
    """Where keys or values lie: strides of rows, heads and entries, in elements.

    Of integers also step and offset, side by side in int32 [M, groups]; an entry finds its own in row_of, or
    shares them with its neighbours, `run` of them. Of names what they stand for.
    """

    at: Tensor
    row: int
    head: int
    entry: int
    pairs: Tensor | None = None
    row_of: Tensor | None = None
    run: int = 1
    words: Words | None = None


class Shape(NamedTuple):
    """Channels of a side, bits of each (8 if they are no integers), groups with a step, lanes of a tile; of
    names also how many an entry has, channels of a codeword, angles by which keys turn.
    """

    dim: int
    bits: int
    groups: int
    width: int
    pieces: int = 0
    size: int = 0
    angles: int = 0
    is_interleaved: bool = False


class Plane(NamedTuple):
    """One number per row, head and entry, or query: the strides of rows and heads; the last is 1."""

    at: Tensor
    row: int
    head: int


class Lists(NamedTuple):
    """The entries of one (row, head) each: equally many; or `lengths` by row; or flat, between offsets."""

    n_lists: int
    n_heads: int
    lengths: Tensor | None = None
    offsets: Tensor | None = None


class Asked(NamedTuple):
    """Queries [lists, R, D], contiguous: row r is that of query r % S of its row of the batch, S = n_queries,
    which sees the entries before `visible`.
    """

    q: Tensor
    n_rows: int
    n_queries: int
    visible: Plane | None = None


class Cut(NamedTuple):
    """Entries of a list (flat: of all), of a chunk, and chunks of a list; they change from call to call."""

    n_entries: int
    chunk: int
    n_chunks: int


class How(NamedTuple):
    """What a kernel is compiled for: queries and entries of a tile, `sizes.Product`, what is added to logits
    before the exponential (see `lift`), and the power of two that the lists fit into.
    """

    rows: int
    block: int
    product: int
    lift: float = 0.0
    lists: int = 1


def side(x: Tensor) -> tuple[Side, Shape]:
    """Entries [B, H, C, D], or flat [N, D]."""
    row, head, entry = (0, 0, x.stride(0)) if x.ndim == 2 else x.stride()[:3]
    return Side(x, row, head, entry), Shape(x.shape[-1], 8, 1, sizes.lanes(x.shape[-1]))


def side_of(x: Written) -> tuple[Side, Shape]:
    """Entries that are written."""
    return _of_integers(x) if isinstance(x, Integers) else _of_names(x)


def _of_integers(x: Integers) -> tuple[Side, Shape]:
    pairs = x.scales.flatten(1).view(torch.int32)
    found = Side(x.codes, 0, 0, x.codes.shape[1], pairs, x.row_of, x.run)
    return found, Shape(x.dim, x.bits, x.scales.shape[1], sizes.lanes(x.dim, x.bits))


def _of_names(x: Codewords) -> tuple[Side, Shape]:
    _, pieces, _, size = x.books.shape
    shape = Shape(x.dim, 8, 1, sizes.lanes(x.dim), pieces, size)
    turn = None
    if x.turn is not None:
        positions, rope = x.turn
        turn = Turn(positions, rope.frequencies, rope.scaling)
        shape = shape._replace(angles=rope.frequencies.numel(), is_interleaved=rope.is_interleaved)
    return Side(x.codes, 0, 0, pieces, words=Words(x.books, x.lengths, turn)), shape


def plane(x: Tensor, *shape: int) -> Plane:
    """x broadcast to [B, H, n]."""
    wide = x.expand(shape)
    wide = wide if wide.stride(-1) == 1 else wide.contiguous()
    return Plane(wide, wide.stride(0), wide.stride(1))
