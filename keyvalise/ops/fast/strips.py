"""Codes of components from their bytes, in one compiled loop: the codes of `ops.strips.unpack`."""

from __future__ import annotations

from typing import Any

import numpy as np

from keyvalise.ops import bitstring, densities, energy
from keyvalise.ops.echo import Echo
from keyvalise.ops.fast import rans
from keyvalise.ops.strips import Codes, Packed, Plan

_PAD = bytes(8)
_MOST_PER_BYTE = 8 * 2**12
"""Every table leaves a slot to the escape, so no symbol is free; more than these cannot stand in a byte."""


def unpack(packed: Packed, plan: Plan, n: int, echo: Echo | None = None) -> Codes:
    """The codes [R, n] again; as `strips.unpack`.

    Raises   ValueError where the bytes do not hold so many codes
    """
    widths = plan.low.astype(np.int64)
    if len(packed.low) != -(-int(widths.sum()) * n // 8) or widths.max(initial=0) > bitstring.WIDEST:
        raise ValueError("the low bits do not fit the codes")
    if len(plan.tables) * n > _MOST_PER_BYTE * (len(packed.message) + 1):
        raise ValueError("the message is too short for its symbols")
    stacks = rans.Stacks.of(packed.message, len(plan.tables) * n)
    if len(plan.shifts) != (energy.CLASSES if echo is None else energy.ALL_CLASSES):
        raise ValueError("the classes do not fit the echoes")
    of, base = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    if echo is not None:
        of = np.where(echo.of >= 0, echo.of, np.arange(n))
        base = energy.CLASSES * (1 + echo.depth)
    escapes = np.frombuffer(packed.escapes, "<i4").astype(np.int32)
    low = np.frombuffer(packed.low + _PAD, np.uint8)
    codes = np.empty((len(plan.tables), n), np.int32)
    scales = energy.Scales.of(plan.expected)
    taken = _kernels().read(
        stacks.words,
        stacks.at,
        stacks.states,
        densities.tables().slots,
        plan.rows,
        (scales.weight, scales.loud, scales.near),
        widths,
        low,
        escapes,
        (of, base),
        (np.full(n, energy.PRIOR), np.full(len(of), energy.HOPE)),
        codes,
    )
    stacks.finish()
    if taken != len(escapes):
        raise ValueError("codes beyond the tables are missing or left over")
    return codes


def _kernels() -> Any:
    from keyvalise.ops.fast import strips_kernel

    return strips_kernel
