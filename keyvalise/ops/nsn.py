"""Windows of tokens made alike: every token scaled to unit size, the window's mean taken away, scaled again,
mixed, and written eight numbers at a time.

Axes      N rows in M windows of `group` that follow one another; D channels, D' = 8·⌈D/8⌉; P = D'/8
Formula   x̂ = size·(factor·H·c + mean)
What a window is freed of is rounded first and taken away as it will be read, so that its rounding is left to
what remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import affine, hadamard, halves, octets
from keyvalise.ops.octets import Book
from keyvalise.ops.turn import Turn

BITS = 4
"""Of sizes and means."""

CHANNELS = 64
"""Channels of a mean that share a step and an offset."""

SHARED = ("of_sizes", "means", "of_means")
"""What a window shares, by name."""

NONE = Turn(None, None)


@dataclass(frozen=True, slots=True)
class Written:
    """Rows in code; steps and offsets are float16 and stand last.

    codes    uint8 [N, P·bits];  factor float16 [N];  sizes uint8 [N], below 16, with of_sizes [M, 2]
    means    uint8 [M, ⌈D/2⌉] with of_means [M, ⌈D/64⌉, 2]
    """

    codes: Tensor
    factor: Tensor
    sizes: Tensor
    of_sizes: Tensor
    means: Tensor
    of_means: Tensor


def window_bytes(dim: int) -> int:
    """Bytes of what a window shares."""
    return 4 + -(-dim // 2) + 4 * affine.n_groups(dim, CHANNELS)


def owners(n: int, group: int, device: torch.device) -> Tensor:
    """int64 [N]: the window of every row, where they follow one another."""
    return torch.arange(n, device=device) // group


def padded(x: Tensor) -> Tensor:
    """[N, D] → [N, D'], zeros behind."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % octets.SIZE))


def write(x: Tensor, group: int, book: Book, turn: Turn = NONE) -> Written:
    """Rows [N, D] in code; what remains of them is turned before it is mixed, their means are not.

    Formula  size = ‖x‖/√D,  mean = Σ x/size / group,  rest = x/size − mean, turned;  c the vectors nearest to
             H·rest at unit size;  factor = ‖rest‖/‖c‖, so that nothing shrinks on its way
    """
    (n, dim), x = x.shape, x.to(torch.promote_types(x.dtype, torch.float32))
    lengths = x.square().mean(-1).sqrt().view(-1, group)
    of_sizes = affine.fit(lengths, BITS, dim=1)
    sizes = affine.quantize(lengths, of_sizes[:, :1], of_sizes[:, 1:], BITS).flatten()
    owner = owners(n, group, x.device)
    size = affine.dequantize(sizes, *of_sizes[owner].unbind(-1))[:, None].to(x.dtype)
    even = torch.where(size > 0, x / size, 0)
    means, of_means = affine.encode_rows(even.view(-1, group, dim).mean(1), BITS, CHANNELS)
    rest = even - affine.decode_rows(means, of_means, BITS, dim).to(x.dtype)[owner]
    mixed = hadamard.rotate(padded(turn.on(rest)))
    scale = mixed.square().mean(-1, keepdim=True).sqrt()
    codes = book.encode(torch.where(scale > 0, mixed / scale, 0))
    c = book.decode(codes).to(x.dtype)
    factor = mixed.norm(dim=-1) / c.norm(dim=-1)
    return Written(codes, factor.clamp(0, halves.LARGEST).half(), sizes, of_sizes, means, of_means)


@dataclass(frozen=True, slots=True)
class Held:
    """Rows as they are read: codes and factor as written, size float32 [N], mean float32 [M, D]; owner int64
    [N] finds a row's mean.
    """

    codes: Tensor
    factor: Tensor
    size: Tensor
    mean: Tensor
    owner: Tensor
    book: Book
    turn: Turn

    @staticmethod
    def of(written: Written, owner: Tensor, dim: int, book: Book, turn: Turn = NONE) -> Held:
        """Rows of `dim` numbers; `turn` as they were written with."""
        size = affine.dequantize(written.sizes, *written.of_sizes[owner].unbind(-1))
        mean = affine.decode_rows(written.means, written.of_means, BITS, dim)
        return Held(written.codes, written.factor.float(), size, mean, owner, book, turn)

    def rows(self) -> Tensor:
        """float32 [N, D]."""
        mean = self.turn.on(self.mean[self.owner])
        rest = hadamard.rotate(self.book.decode(self.codes) * self.factor[:, None])[:, : mean.shape[1]]
        return self.turn.scaled(self.size[:, None] * (rest + mean))

    def dots(self, q: Tensor, _head: int, rows: slice) -> Tensor:
        """q·x̂ float32 [G, n] of q [G, D]: queries are mixed, so that no row has to be."""
        q, mean = self.turn.scaled(q), self.turn.rows(rows).on(self.mean[self.owner[rows]])
        found = hadamard.rotate(padded(q)) @ self.book.decode(self.codes[rows]).T
        return self.size[rows] * (self.factor[rows] * found + q @ mean.T)

    def weighed(self, weights: Tensor, _head: int, rows: slice) -> Tensor:
        """Σ w·x̂ float32 [G, D] of weights [G, n], of rows that are not turned: sums are mixed back, and means
        weighed with all that fell on their window.
        """
        weights = weights * self.size[rows]
        mass = torch.zeros(len(weights), len(self.mean), device=weights.device)
        mass.index_add_(1, self.owner[rows], weights)
        rest = hadamard.rotate((weights * self.factor[rows]) @ self.book.decode(self.codes[rows]))
        return rest[:, : self.mean.shape[1]] + mass @ self.mean
