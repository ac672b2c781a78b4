"""Codes of components from their bytes, in one compiled loop: the codes of `ops.strips.unpack`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keyvalise.ops import bitstring, densities, energy
from keyvalise.ops.fast import rans
from keyvalise.ops.strips import Codes, Packed, Plan

_PAD = bytes(8)
_MOST_PER_BYTE = 8 * 2**12
"""Every table leaves a slot to the escape, so no symbol is free; more than these cannot stand in a byte."""


def unpack(packed: Packed, plan: Plan, n: int) -> Codes:
    """The codes [R, n] again; as `strips.unpack`.

    Raises   ValueError where the bytes do not hold so many codes
    """
    widths = plan.low.astype(np.int64)
    if len(packed.low) != -(-int(widths.sum()) * n // 8) or widths.max(initial=0) > bitstring.WIDEST:
        raise ValueError("the low bits do not fit the codes")
    if len(plan.tables) * n > _MOST_PER_BYTE * (len(packed.message) + 1):
        raise ValueError("the message is too short for its symbols")
    stacks = rans.Stacks.of(packed.message, len(plan.tables) * n)
    weight, inverse = energy.weights(plan.expected)
    escapes = np.frombuffer(packed.escapes, "<i4").astype(np.int32)
    low = np.frombuffer(packed.low + _PAD, np.uint8)
    codes = np.empty((len(plan.tables), n), np.int32)
    loud = np.full(n, energy.PRIOR, np.int64)
    taken = _kernels().read(
        stacks.words,
        stacks.at,
        stacks.states,
        densities.tables().slots,
        plan.rows,
        weight,
        inverse,
        energy.CLASS,
        widths,
        low,
        escapes,
        loud,
        codes,
    )
    stacks.finish()
    if taken != len(escapes):
        raise ValueError("codes beyond the tables are missing or left over")
    return codes


def _kernels() -> Any:
    from keyvalise.ops.fast import strips_kernel

    return strips_kernel
