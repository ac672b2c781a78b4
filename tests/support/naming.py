"""Names of codewords for tests of those who read them where they lie."""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops import codewords, rope
from keyvalise.types.geometry import Rope
from keyvalise.types.written import Codewords


def turning(dim: int, *, is_interleaved: bool = False, scaling: float = 1.0) -> Rope:
    """The rotary embedding of `dim` channels."""
    return Rope(10000.0 ** -(torch.arange(dim // 2) / (dim // 2)), is_interleaved, scaling)


def drawn(n: int, n_heads: int, dim: int, m: int, *, is_sum: bool, has_length: bool) -> Codewords:
    """n names of m of 256 random codewords, of each kv head's own book."""
    books = torch.randn(n_heads, m, 256, dim if is_sum else dim // m).half()
    lengths = 3 * torch.rand(n, 1).half() if has_length else None
    return Codewords(torch.randint(0, 256, (n, m), dtype=torch.uint8), books, dim, lengths)


def read(side: Codewords, heads: Tensor) -> Tensor:
    """What the names stand for: float32 [N, D]."""
    spell = codewords.summed if side.books.shape[3] == side.dim else codewords.spelled
    x = spell(side.codes.int(), heads, side.books)
    x = x if side.lengths is None else x * side.lengths.float()
    return x if side.turn is None else rope.apply(x, *side.turn)
