"""Numbers bit for bit around their predictions, in one compiled loop: the words of `ops.exact.unpack`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import exact, located
from keyvalise.ops.fast import rans
from keyvalise.ops.floats import Form, Words

Singles = npt.NDArray[np.float32]

_PAD = bytes(8)


def unpack(packed: exact.Packed, p: Singles, s: npt.NDArray[np.int32], form: Form) -> Words:
    """The words [n] again; as `exact.unpack`.

    Raises   ValueError where the bytes do not fit the predictions
    """
    stacks = rans.Stacks.of(packed.message, len(p))
    gaps = rans.Stacks.of(packed.gaps, packed.n_gaps)
    out = np.empty(len(p), form.dtype)
    runs = (
        exact.run(packed.escapes, "<i4"),
        exact.run(packed.fields, "u1"),
        np.frombuffer(packed.low + _PAD, np.uint8),
        exact.run(packed.listed, form.dtype.newbyteorder("<").str),
    )
    counts = _kernels().read(
        stacks.words,
        stacks.at,
        stacks.states,
        located.tables().slots.reshape(-1),
        gaps.words,
        gaps.at,
        gaps.states,
        exact.gap_tables().slots.reshape(-1),
        p,
        s,
        _powers(),
        (packed.family, form.mantissa, form.exponent),
        runs,
        out,
    )
    stacks.finish()
    gaps.finish()
    if counts[:3] != (len(runs[0]), len(runs[1]), len(runs[3])) or -(-counts[3] // 8) != len(packed.low):
        raise ValueError("numbers that no table holds or low bits are missing or left over")
    return out


@functools.cache
def _powers() -> npt.NDArray[np.float64]:
    """2^i for every i that scales a prediction, the middle one 1."""
    half = -exact.LEAST // exact.QUARTERS + 8
    return np.ldexp(1.0, np.arange(-half, half + 1))


def _kernels() -> Any:
    from keyvalise.ops.fast import exact_kernel

    return exact_kernel
