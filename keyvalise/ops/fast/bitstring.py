"""Whole numbers of differing widths side by side, by compiled loops; the bytes of `ops.bitstring`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import bitstring

Whole = npt.NDArray[np.integer]


def pack(values: Whole, widths: Whole) -> bytes:
    """The low `widths` bits of values; as `bitstring.pack`."""
    n_bytes = bitstring.size(widths)
    out = np.zeros(n_bytes + 8, np.uint8)
    _kernels().pack(np.ascontiguousarray(values, np.int32), np.ascontiguousarray(widths, np.int32), out)
    return out[:n_bytes].tobytes()


def unpack(data: bytes, widths: Whole) -> npt.NDArray[np.int32]:
    """The values again; as `bitstring.unpack`."""
    if len(data) != bitstring.size(widths):
        raise ValueError(f"{len(data)} bytes cannot hold the low bits; they take {bitstring.size(widths)}")
    out = np.empty(len(widths), np.int32)
    _kernels().unpack(np.frombuffer(data + bytes(8), np.uint8), np.ascontiguousarray(widths, np.int32), out)
    return out


def _kernels() -> Any:
    from keyvalise.ops.fast import bitstring_kernel

    return bitstring_kernel
