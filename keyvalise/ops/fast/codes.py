"""Integers and names of codewords as compiled attention reads them: what it can read, and how it is told."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from keyvalise.ops.fast.legible import LANES
from keyvalise.ops.fast.plan import WORDS
from keyvalise.types.written import Codewords, Integers, Written

SHORT = (1, 2, 4)
"""Numbers of a codeword that are no multiple of LANES."""


def kind(side: Written) -> Literal["integers", "codewords"]:
    """The worker that reads it."""
    return "integers" if isinstance(side, Integers) else "codewords"


def flaw(keys: Written, values: Written) -> str | None:
    """Why these cannot be read, or None."""
    return _flaw(keys) or _flaw(values)


def told(keys: Written, values: Written) -> dict[str, Any]:
    """What the plan says of them."""
    record: dict[str, Any] = {}
    for x, side in (("k", keys), ("v", values)):
        of_side = _of_integers(side) if isinstance(side, Integers) else _of_names(side)
        record |= {f"{x}_{name}": number for name, number in of_side.items()}
    if isinstance(keys, Codewords) and keys.turn is not None:
        positions, rope = keys.turn
        record |= {"positions": positions.data_ptr(), "frequencies": rope.frequencies.data_ptr()}
        record |= {"n_angles": rope.frequencies.numel(), "is_interleaved": int(rope.is_interleaved)}
        record["turn_scaling"] = rope.scaling
    return record


def _of_integers(side: Integers) -> dict[str, int]:
    scales, rows = side.scales.data_ptr(), 0 if side.row_of is None else side.row_of.data_ptr()
    return {
        "scales": scales,
        "rows": rows,
        "bits": side.bits,
        "groups": side.scales.shape[1],
        "run": side.run,
    }


def _of_names(side: Codewords) -> dict[str, int]:
    lengths, (_, pieces, _, size) = 0 if side.lengths is None else side.lengths.data_ptr(), side.books.shape
    return {"books": side.books.data_ptr(), "lengths": lengths, "pieces": pieces, "size": size}


def _flaw(side: Written) -> str | None:
    if not all(x.is_cpu and x.is_contiguous() for x in _tensors(side)):
        return "codes and what they are read with must lie on the CPU, contiguous"
    if side.codes.dtype is not torch.uint8 or side.codes.ndim != 2:
        return f"codes must be bytes [N, …]; got {side.codes.dtype} {tuple(side.codes.shape)}"
    return _flaw_of_integers(side) if isinstance(side, Integers) else _flaw_of_names(side)


def _tensors(side: Written) -> list[Tensor]:
    if isinstance(side, Integers):
        found = [side.codes, side.scales, side.row_of]
    else:
        turn = () if side.turn is None else (side.turn[0], side.turn[1].frequencies)
        found = [side.codes, side.books, side.lengths, *turn]
    return [x for x in found if x is not None]


def _flaw_of_integers(side: Integers) -> str | None:
    codes, scales, row_of = side.codes, side.scales, side.row_of
    n_bytes, groups = side.dim * side.bits // 8, scales.shape[1]
    width = -(-side.dim // groups)
    if side.bits not in (1, 2, 4, 8) or n_bytes % LANES or (width > 1 and width % LANES):
        return f"{side.dim} channels of {side.bits} bits in {groups} groups do not fall into {LANES} lanes"
    if codes.shape[1] != n_bytes or scales.dtype is not torch.float16:
        return f"codes must be [N, {n_bytes}] and scales float16; got {tuple(codes.shape)}, {scales.dtype}"
    if row_of is None:
        return "an entry has no scales" if len(codes) > len(scales) * side.run else None
    is_fit = row_of.dtype is torch.int32 and row_of.shape == codes.shape[:1]
    return None if is_fit else "what finds the scales must be int32, one per entry"


def _flaw_of_names(side: Codewords) -> str | None:
    n, (_, pieces, n_words, size) = len(side.codes), side.books.shape
    if n_words != WORDS or side.codes.shape[1] != pieces or side.books.dtype is not torch.float16:
        return f"books must be float16 [H, {side.codes.shape[1]}, {WORDS}, …], got {tuple(side.books.shape)}"
    if size not in (side.dim, side.dim / pieces) or side.dim % LANES or (size % LANES and size not in SHORT):
        return f"codewords of {size} numbers do not make {side.dim} in {LANES} lanes"
    if side.lengths is not None and (side.lengths.dtype is not torch.float16 or side.lengths.numel() != n):
        return "lengths must be float16, one per entry"
    if side.turn is None:
        return None
    positions, rope = side.turn
    is_fit = positions.dtype is torch.int32 and positions.shape == (n,) and rope.width <= side.dim
    is_fit &= rope.frequencies.dtype is torch.float32
    return None if is_fit else "positions must be int32, one per entry, and turn no more than there is"
