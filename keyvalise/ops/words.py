"""Keys of one layer in codewords that turn like keys, each head with its own tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import apart, bitpack, commuting
from keyvalise.ops.turn import Turn
from keyvalise.types.errors import AssetError
from keyvalise.types.geometry import Rope

ROWS = 2**12
"""Keys that are read at a time where a query asks many."""


@dataclass(frozen=True, slots=True)
class Words:
    """k̂ = middle + gain/scale·Σ words, all paired.

    Shapes   tables [H, R, n, D], n a power of two; middles, scales [H, D]; gains [H]
    """

    tables: Tensor
    middles: Tensor
    scales: Tensor
    gains: Tensor
    rope: Rope | None

    @staticmethod
    def first(n: int, held: Mapping[str, Tensor], layer: int, rope: Rope | None) -> Words:
        """Of the first n stages of a layer, from an asset's tensors.

        Raises   AssetError where there are fewer
        """
        tables = held["keys"][layer]
        if tables.shape[1] < n:
            raise AssetError(f"the codewords have {tables.shape[1]} stages, {n} are needed; train them again")
        middle, scale, gain = (held[f"{name}_keys"][layer] for name in ("middle", "scale", "gain"))
        return Words(tables[:, :n], middle, scale, gain, rope)

    @property
    def bits(self) -> int:
        """Of a stage's code."""
        return 2 * (self.tables.shape[2].bit_length() - 1)

    def write(self, x: Tensor, heads: Tensor) -> Tensor:
        """Keys [N, D], not turned, as uint8 [N, ⌈R·bits/8⌉]; heads int64 [N]."""
        x = commuting.paired(x.to(torch.promote_types(x.dtype, torch.float32)), self.rope)
        x = (x - self.middles.to(x.dtype)[heads]) * self.scales.to(x.dtype)[heads]

        def written(head: int, rows: Tensor) -> tuple[Tensor, ...]:
            return (commuting.encode(x[rows], self.tables[head].to(x.dtype)),)

        (codes,) = apart.by_head(written, heads, len(self.tables))
        return bitpack.pack_bits(codes, self.bits)

    def read(self, packed: Tensor, heads: Tensor) -> Tensor:
        """float32 [N, D], not turned; heads int64 [N]."""
        codes = bitpack.unpack_bits(packed, self.bits, self.tables.shape[1])
        share = self.gains.float()[:, None] / self.scales.float()
        sums = commuting.decode(codes, self.tables, heads) * share[heads]
        return commuting.unpaired(sums + self.middles.float()[heads], self.rope)

    def dots(self, q: Tensor, packed: Tensor, heads: Tensor, turn: Turn) -> Tensor:
        """q·k̂ float32 [G, N] of q [G, D], keys turned: they are summed and turned once for all queries."""
        found = []
        for begin in range(0, len(packed), ROWS):
            rows = slice(begin, begin + ROWS)
            keys = turn.rows(rows).forth(self.read(packed[rows], heads[rows]))
            found.append(q @ keys.T)
        return torch.cat(found, 1)
