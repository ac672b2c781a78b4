"""Vectors as bytes that name codewords, and queries answered from the names.

Axes     N entries, D numbers, m pieces or stages, K codewords;  heads int [N]: whose book an entry is written
         with;  books [H, m, K, D/m] (product) or [H, m, K, D] (residual)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from keyvalise.ops import codewords, indices, lookup


@dataclass(frozen=True, slots=True)
class Spelling:
    """m names out of n codewords each.

    is_sum    codewords are added up, not laid side by side;  beam: sums that a search hands on
    how       names in bytes, see ops.indices;  has_length: vectors of length 1 are written, and the length
    """

    m: int
    n: int
    is_sum: bool = False
    beam: int = 1
    how: str = "packed"
    has_length: bool = False

    def width(self) -> int:
        """Bytes of one vector."""
        return indices.width(self.m, self.n, self.how) + (2 if self.has_length else 0)

    @property
    def is_bytes(self) -> bool:
        """Whether every name is a byte of its own."""
        return self.n == 256 and self.how == "packed"

    def write(self, x: Tensor, heads: Tensor, books: Tensor) -> dict[str, Tensor]:
        """The tensors "names" uint8 [N, W] and, where lengths are written, "lengths" float16 [N, 1]."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        written = {}
        if self.has_length:
            x, written["lengths"] = codewords.unit(x)
        if self.is_sum:
            names = codewords.residual(x, heads, books, self.beam)
        else:
            names = codewords.product(x, heads, books)
        return {"names": indices.write(names, self.n, self.how), **written}

    def read(self, written: Mapping[str, Tensor], heads: Tensor, books: Tensor) -> Tensor:
        """The vectors again: float32 [N, D]."""
        names = self.names(written)
        x = (codewords.summed if self.is_sum else codewords.spelled)(names, heads, books)
        return x * written["lengths"].float() if self.has_length else x

    def names(self, written: Mapping[str, Tensor]) -> Tensor:
        """int32 [N, m]."""
        return indices.read(written["names"], self.n, self.m, self.how)

    def dots(self, written: Mapping[str, Tensor], books: Tensor) -> lookup.Dots:
        """Products of queries with entries, looked up."""
        names = self.names(written)

        def dots(q: Tensor, head: int, span: slice) -> Tensor:
            found = lookup.products(q, names[span], books[head])
            return found * written["lengths"][span].float().t() if self.has_length else found

        return dots

    def weighed(self, written: Mapping[str, Tensor], books: Tensor, dim: int) -> lookup.Weighed:
        """Sums of weighed entries, added up per codeword."""
        names = self.names(written)

        def weighed(weights: Tensor, head: int, span: slice) -> Tensor:
            if self.has_length:
                weights = weights * written["lengths"][span].float().t()
            return lookup.sums(weights, names[span], books[head], dim)

        return weighed
