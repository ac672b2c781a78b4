"""Whether what is written says what it means, for every kernel that reads it where it lies."""

from __future__ import annotations

import torch
from torch import Tensor

from keyvalise.ops.fast.plan import WORDS
from keyvalise.types.written import Codewords, Integers, Written


def tensors(side: Written) -> list[Tensor]:
    """All that a kernel is told the address of."""
    if isinstance(side, Integers):
        found = [side.codes, side.scales, side.row_of]
    else:
        turn = () if side.turn is None else (side.turn[0], side.turn[1].frequencies)
        found = [side.codes, side.books, side.lengths, *turn]
    return [x for x in found if x is not None]


def flaw(side: Written) -> str | None:
    """Why nobody could read it, or None."""
    if side.codes.dtype is not torch.uint8 or side.codes.ndim != 2:
        return f"codes must be bytes [N, …]; got {side.codes.dtype} {tuple(side.codes.shape)}"
    if found := _flaw_of_integers(side) if isinstance(side, Integers) else _flaw_of_names(side):
        return found
    is_fit = all(x.is_contiguous() for x in tensors(side))
    return None if is_fit else "codes and what they are read with must be contiguous"


def _flaw_of_integers(side: Integers) -> str | None:
    codes, scales, row_of = side.codes, side.scales, side.row_of
    n_bytes = -(-side.dim * side.bits // 8)
    if side.bits not in (1, 2, 4, 8):
        return f"codes must have 1, 2, 4 or 8 bits; got {side.bits}"
    if codes.shape[1] != n_bytes or scales.dtype is not torch.float16:
        return f"codes must be [N, {n_bytes}] and scales float16; got {tuple(codes.shape)}, {scales.dtype}"
    if scales.ndim != 3 or scales.shape[2] != 2 or not 1 <= scales.shape[1] <= side.dim:
        return f"scales must be [M, groups, 2], at most {side.dim} groups; got {tuple(scales.shape)}"
    if row_of is None:
        return "an entry has no scales" if len(codes) > len(scales) * side.run else None
    is_fit = row_of.dtype is torch.int32 and row_of.shape == codes.shape[:1]
    return None if is_fit else "what finds the scales must be int32, one per entry"


def _flaw_of_names(side: Codewords) -> str | None:
    n, (_, pieces, n_words, size) = len(side.codes), side.books.shape
    if n_words != WORDS or side.codes.shape[1] != pieces or side.books.dtype is not torch.float16:
        return f"books must be float16 [H, {side.codes.shape[1]}, {WORDS}, …], got {tuple(side.books.shape)}"
    if size != side.dim and size * pieces != side.dim:
        return f"{pieces} codewords of {size} numbers do not make {side.dim}"
    if side.lengths is not None and (side.lengths.dtype is not torch.float16 or side.lengths.numel() != n):
        return "lengths must be float16, one per entry"
    if side.turn is None:
        return None
    positions, rope = side.turn
    is_fit = positions.dtype is torch.int32 and positions.shape == (n,) and rope.width <= side.dim
    is_fit &= rope.frequencies.dtype is torch.float32
    return None if is_fit else "positions must be int32, one per entry, and turn no more than there is"
