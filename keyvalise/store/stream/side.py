"""What all chunks of a layer share: mean, scale and basis of its keys or its values.

Flows in    a matrix [N, C] and which of its rows are written
Flows out   components of it, and the bytes that let a reader turn them back
Written     in pieces: with every rung the vectors of those components that become worth writing there
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from keyvalise.ops import principal
from keyvalise.ops.fast import product, turned
from keyvalise.store.stream import short
from keyvalise.store.stream.wire import Reader, Writer
from keyvalise.types.errors import DamagedStream

Singles = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Side:
    """mean float32 [C];  scale float32 [H];  width: channels of a block, 1 = none is turned;  blocks."""

    mean: Singles
    scale: Singles
    width: int
    blocks: tuple[principal.Block, ...] = ()

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def ranks(self) -> tuple[int, ...]:
        """Components of every block that are known so far."""
        return tuple(block.rank for block in self.blocks)

    @property
    def spread(self) -> Singles:
        """The scale of every channel [C]."""
        return np.repeat(self.scale, self.dim // len(self.scale))

    def forward(self, x: Singles) -> Singles:
        """Components of rows: [N, C] → [R, N], in the order of `order`."""
        flat = (x - self.mean) / self.spread
        if self.width == 1:
            return np.ascontiguousarray(flat.T)
        parts = [b.matrix.T @ flat[:, i * self.width :][:, : self.width].T for i, b in enumerate(self.blocks)]
        blocks, ranks = order([0] * len(self.blocks), self.ranks)
        return (
            np.stack([parts[b][r] for b, r in zip(blocks, ranks, strict=True)])
            if len(blocks)
            else flat[:, :0].T
        )

    def backward(self, y: Singles, order: tuple[Whole, Whole], *, is_steady: bool = False) -> Singles:
        """Rows of components, less the mean: [R, N] → [N, C]; is_steady: the same bits everywhere."""
        if self.width == 1:
            return turned.flip(y, self.spread)
        blocks, ranks = order
        out = np.empty((y.shape[1], self.dim), np.float32)
        for i, block in enumerate(self.blocks):
            columns = slice(i * self.width, (i + 1) * self.width)
            own = slice(None) if len(self.blocks) == 1 else np.flatnonzero(blocks == i)
            turn = block.matrix[:, ranks[own]] * self.spread[columns, None]
            parts = y[own]
            if is_steady:
                out[:, columns] = product.product(turn, parts).T
            else:
                np.matmul(parts.T, turn.T, out=out[:, columns])
        return out

    def cut(self, ranks: tuple[int, ...]) -> Side:
        """The same with the first components of every block only."""
        blocks = tuple(block.cut(0, rank) for block, rank in zip(self.blocks, ranks, strict=True))
        return Side(self.mean, self.scale, self.width, blocks)


def order(known: list[int] | tuple[int, ...], ranks: tuple[int, ...]) -> tuple[Whole, Whole]:
    """Block and rank of the components from known … to ranks of every block: the loud ones of all first."""
    pairs = [(rank, block) for block, rank_end in enumerate(ranks) for rank in range(known[block], rank_end)]
    pairs.sort()
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return both[:, 1], both[:, 0]


def joined(one: tuple[Whole, Whole], other: tuple[Whole, Whole]) -> tuple[Whole, Whole]:
    """One order behind the other."""
    return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])


def fit(x: Singles, heads: int, step: float, least: float) -> Side:
    """The side of rows [N, C] of `heads` heads.

    step     for which the width of the blocks is chosen;  least: deviation of the faintest component kept
    """
    half = x.mean(0).astype(np.float16) if len(x) else np.zeros(x.shape[1], np.float16)
    mean: Singles = np.where(np.isfinite(half), half, 0).astype(np.float32)
    centred = (x - mean).reshape(len(x), heads, x.shape[1] // heads)
    mean_square = np.square(centred.astype(np.float64)).mean((0, 2)) if x.size else np.zeros(heads)
    scale: Singles = np.sqrt(np.where(mean_square > 0, mean_square, 1.0)).astype(np.float32)
    flat = (centred / scale[:, None]).reshape(x.shape)
    moments = principal.covariance(flat)
    width = principal.choose(moments, len(x), _widths(heads, x.shape[1] // heads), step)
    firsts = range(0, x.shape[1], width) if width > 1 else ()
    blocks = tuple(principal.fit(moments[i : i + width, i : i + width], least) for i in firsts)
    return Side(mean, scale, width, blocks)


def _widths(heads: int, dim: int) -> list[int]:
    """Blocks of whole heads that divide them evenly."""
    fits = [n for n in range(1, heads + 1) if heads % n == 0]
    return [n * dim for n in fits if 1 < n * dim <= principal.WIDEST]


def write(side: Side, known: tuple[int, ...] | None, ranks: tuple[int, ...]) -> bytes:
    """The bytes of the components beyond `known`; None: of everything."""
    out = Writer()
    if known is None:
        out.array(side.mean, "<f2")
        out.array(side.scale, "<f4")
        out.number(side.width)
        known = (0,) * len(side.blocks)
    new = [block.cut(first, end) for block, first, end in zip(side.blocks, known, ranks, strict=True)]
    for block in new:
        out.number(block.rank)
    if sum(block.rank for block in new):
        short.write(out, [*(block.bits for block in new), *(row for block in new for row in block.numbers)])
    return bytes(out.data)


def read(data: bytes, known: Side | None, dim: int, heads: int) -> Side:
    """The side, grown by what the bytes say.

    Raises   ValueError where the bytes hold no such side, mostly DamagedStream
    """
    source = Reader(data)
    if known is None:
        known = _begin(source, dim, heads)
    new = [source.number(known.width - block.rank) for block in known.blocks]
    blocks = known.blocks
    if sum(new):
        lengths = [_lengths(block, n) for block, n in zip(blocks, new, strict=True)]
        rows = short.read(source, [*new, *(n for block in lengths for n in block)])
        precision, numbers = rows[: len(new)], iter(rows[len(new) :])
        if any((bits < 1).any() or (bits > principal.MOST_BITS).any() for bits in precision):
            raise DamagedStream("a basis of the stream has an impossible precision")
        blocks = tuple(
            principal.Block(
                block.width,
                [*block.numbers, *(next(numbers) for _ in bits)],
                np.concatenate([block.bits, bits]),
            )
            for block, bits in zip(blocks, precision, strict=True)
        )
    source.finish()
    return Side(known.mean, known.scale, known.width, blocks)


def _lengths(block: principal.Block, new: int) -> list[int]:
    return [block.width - 1 - rank for rank in range(block.rank, block.rank + new)]


def _begin(source: Reader, dim: int, heads: int) -> Side:
    mean = source.array(dim, "<f2").astype(np.float32)
    scale = source.array(heads, "<f4").astype(np.float32)
    width = source.number(dim)
    if not (np.isfinite(mean).all() and np.isfinite(scale).all()) or width < 1 or (width > 1 and dim % width):
        raise DamagedStream("means, scales or blocks of the stream make no sense")
    empty = principal.Block(width, [], np.zeros(0, np.int32))
    return Side(mean, scale, width, (empty,) * (dim // width if width > 1 else 0))


Ranks = Callable[[float], tuple[int, ...]]
"""Components of every block that are worth writing at a step."""


def worth(side: Side, deviations: npt.NDArray[np.floating]) -> Ranks:
    """By the deviations [R] of the components, in their order."""
    blocks, ranks = order([0] * len(side.blocks), side.ranks)

    def at(step: float) -> tuple[int, ...]:
        is_loud = deviations >= principal.ACTIVE * step
        return tuple(
            int((ranks[(blocks == i) & is_loud] + 1).max(initial=0)) for i in range(len(side.blocks))
        )

    return at
