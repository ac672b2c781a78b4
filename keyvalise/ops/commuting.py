"""Keys as sums of codewords that turn like keys: turned or not, the code is the same.

Pairs       of channels that the rotary embedding turns together are complex numbers; a row of D channels is
            held as its D/2 real parts, then its imaginary ones, and i·x is (−imaginary, real)
Codewords   c_A + i·c_B for any two of a table's n rows: n² of them in every stage. A code is A·n + B of all
            stages. Times e^{iφ}, pair by pair, a codeword is that of the table times e^{iφ}
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import apart, bitpack
from keyvalise.ops.fast import search
from keyvalise.ops.turn import Turn
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Rope

LINES = 64
"""Rows of a table, unless it has others."""

AT_ONCE = 2**20
"""Distances that are held at a time."""

ROWS = 2**12
"""Keys that are read at a time where a query asks many."""


def order(dim: int, rope: Rope | None) -> list[int]:
    """The channels, real parts first; those that are not turned are paired among themselves."""
    # Keys that a transform has made smaller have no pairs of the model's any more.
    width = 0 if rope is None or rope.width > dim else rope.width
    if rope is not None and rope.is_interleaved:
        parts = [*range(0, width, 2)], [*range(1, width, 2)]
    else:
        parts = [*range(width // 2)], [*range(width // 2, width)]
    middle = (width + dim) // 2
    return [*parts[0], *range(width, middle), *parts[1], *range(middle, dim)]


def paired(x: Tensor, rope: Rope | None) -> Tensor:
    """A row's real parts, then its imaginary ones."""
    return x[..., torch.tensor(order(x.shape[-1], rope), device=x.device)]


def unpaired(x: Tensor, rope: Rope | None) -> Tensor:
    """The channels in the model's order again."""
    back = torch.tensor(order(x.shape[-1], rope), device=x.device).argsort()
    return x[..., back]


def turned_once(x: Tensor) -> Tensor:
    """i·x."""
    real, imaginary = x.chunk(2, -1)
    return torch.cat([-imaginary, real], -1)


def parts(x: Tensor, table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What every codeword's nearness is the sum of: ⟨x, c_A⟩ [M, n], ⟨x, i·c_B⟩ [M, n] and −‖c‖²/2 [n, n].

    Formula  ⟨x, c⟩ − ‖c‖²/2 = (‖x‖² − ‖x − c‖²)/2 with c = c_A + i·c_B
    """
    other = turned_once(table)
    half = table.square().sum(-1) / 2
    return x @ table.T, x @ other.T, -(half[:, None] + half + table @ other.T)


def nearest(x: Tensor, table: Tensor) -> Tensor:
    """The codeword A·n + B nearest to every row: x [M, D], table [n, D] → int64 [M]."""
    real, turned, both = parts(x, table)
    if search.available(x):
        return search.words(real, turned, both)
    rows = max(1, AT_ONCE // len(table) ** 2)
    found = [
        (a[:, :, None] + b[:, None] + both).flatten(1).argmax(-1)
        for a, b in zip(real.split(rows), turned.split(rows), strict=True)
    ]
    return torch.cat(found) if found else torch.empty(0, dtype=torch.long, device=x.device)


def word(codes: Tensor, table: Tensor) -> Tensor:
    """The codewords: int [M] → [M, D]."""
    n = len(table)
    return table[codes // n] + turned_once(table[codes % n])


def encode(x: Tensor, tables: Tensor) -> Tensor:
    """Stage after stage the nearest codeword to what is left.

    Shapes   x [M, D], tables [R, n, D] → int64 [M, R]
    """
    codes = []
    for table in tables:
        codes.append(nearest(x, table))
        x = x - word(codes[-1], table)
    return torch.stack(codes, -1)


def decode(codes: Tensor, tables: Tensor, heads: Tensor) -> Tensor:
    """The sums of codewords, every row with its head's tables.

    Shapes   codes int [N, R], tables [H, R', n, D] with R' ≥ R, heads int64 [N] → float32 [N, D]
    """
    n_stages, n = tables.shape[1:3]
    flat = tables.flatten(0, 2)
    real = torch.zeros(len(codes), tables.shape[-1], device=codes.device)
    turned = torch.zeros_like(real)
    for stage in range(codes.shape[1]):
        first, code = (heads * n_stages + stage) * n, codes[:, stage]
        real += flat[first + code // n]
        turned += flat[first + code % n]
    return real + turned_once(turned)


@dataclass(frozen=True, slots=True)
class Words:
    """Keys of one layer in code; tables [H, R, n, D], n a power of two."""

    tables: Tensor
    rope: Rope | None

    @staticmethod
    def first(tables: Tensor, n: int, rope: Rope | None) -> Words:
        """Of the first n stages of a layer's tables.

        Raises   AssetError where there are fewer
        """
        if tables.shape[1] < n:
            raise AssetError(f"the codewords have {tables.shape[1]} stages, {n} are needed; train them again")
        return Words(tables[:, :n], rope)

    @property
    def bits(self) -> int:
        """Of a stage's code."""
        return 2 * (self.tables.shape[2].bit_length() - 1)

    @property
    def width(self) -> int:
        """Bytes of a key."""
        return bitpack.width(self.tables.shape[1], self.bits)

    def write(self, x: Tensor, heads: Tensor) -> Tensor:
        """Keys [N, D], not turned, as uint8 [N, width]; heads int64 [N]."""
        x = paired(x.to(torch.promote_types(x.dtype, torch.float32)), self.rope)

        def written(head: int, rows: Tensor) -> tuple[Tensor, ...]:
            return (encode(x[rows], self.tables[head].to(x.dtype)),)

        (codes,) = apart.by_head(written, heads, len(self.tables))
        return bitpack.pack_bits(codes, self.bits)

    def read(self, packed: Tensor, heads: Tensor) -> Tensor:
        """float32 [N, D], not turned; heads int64 [N]."""
        codes = bitpack.unpack_bits(packed, self.bits, self.tables.shape[1])
        return unpaired(decode(codes, self.tables, heads), self.rope)

    def dots(self, q: Tensor, packed: Tensor, heads: Tensor, turn: Turn) -> Tensor:
        """q·k̂ float32 [G, N] of q [G, D], keys turned: they are summed and turned once for all queries."""
        found = []
        for begin in range(0, len(packed), ROWS):
            rows = slice(begin, begin + ROWS)
            keys = turn.rows(rows).forth(self.read(packed[rows], heads[rows]))
            found.append(q @ keys.T)
        return torch.cat(found, 1)


def logits(q: Tensor, codes: Tensor, tables: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """q·R(position)·x̂ of one head, looked up: what a query has with every row of the tables, found once, is
    gathered, summed, and turned once.

    Shapes   q [Q, D] turned and paired, codes int [N, R], tables [R, n, D], angles cos, sin [N, D/2] → [Q, N]
    Formula  z[r, a] = conj(q)·c_{r,a};  Σ_pairs Re(e^{iφ}·Σ_r (z[r, A_r] + i·z[r, B_r]))
    """
    n = tables.shape[1]
    table = torch.complex(*tables.float().chunk(2, -1))
    found = torch.complex(*q.float().chunk(2, -1)).conj()[:, None, None] * table
    total = torch.zeros((len(q), len(codes), found.shape[-1]), dtype=found.dtype, device=q.device)
    for stage in range(codes.shape[1]):
        code = codes[:, stage]
        total += found[:, stage, code // n] + 1j * found[:, stage, code % n]
    return (torch.complex(*angles) * total).real.sum(-1)
