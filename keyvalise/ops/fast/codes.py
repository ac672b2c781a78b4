"""Integers and names of codewords as compiled attention reads them: what it can read, and how it is told."""

from __future__ import annotations

from typing import Any, Literal

from keyvalise.ops.fast import sound
from keyvalise.ops.fast.legible import LANES
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
    if not all(x.is_cpu for x in sound.tensors(side)):
        return "codes and what they are read with must lie on the CPU"
    if found := sound.flaw(side):
        return found
    if isinstance(side, Integers):
        width, groups = -(-side.dim // side.scales.shape[1]), side.scales.shape[1]
        is_fit = side.dim * side.bits // 8 % LANES == 0 and (width == 1 or width % LANES == 0)
        what = f"{side.dim} channels of {side.bits} bits in {groups} groups"
    else:
        size = side.books.shape[3]
        is_fit = side.dim % LANES == 0 and (size % LANES == 0 or size in SHORT)
        what = f"{side.dim} channels in codewords of {size}"
    return None if is_fit else f"{what} do not fall into {LANES} lanes"
