"""An orthonormal basis as whole numbers: one mirror per vector, each with fewer coordinates than the last.

    basis vector j = H_0 H_1 … H_j e_j,  H_j = 1 − 2·w wᵀ / wᵀw on the coordinates j … C − 1
    w = (√max(1 − |r|², ½), r) with r = whole numbers · 2^−bits · 2/√C

Whatever the whole numbers are, the basis is orthonormal; C − 1 − j numbers are written for vector j, which is
all that an orthonormal basis is free in. Every mirror is chosen after the one before was rounded, so later
vectors make good what earlier ones lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Numbers = list[npt.NDArray[np.int32]]


def unit(dim: int, bits: int) -> float:
    """What one whole number stands for."""
    return 2.0**-bits * 2.0 / float(np.sqrt(np.float64(dim)))


def fit(vectors: Floats, bits: npt.NDArray[np.integer]) -> Numbers:
    """Mirrors that turn the first axes into vectors [C, R] with orthonormal columns, near enough.

    Shapes   bits [R]: precision of every vector → R arrays, the j-th int32 [C − 1 − j]
    """
    rest, numbers = vectors.copy(), []
    for j in range(vectors.shape[1]):
        target = rest[j:, j]
        target = target / max(float(np.sqrt(target @ target)), 1e-30)
        mirror = target.copy()
        mirror[0] += 1.0 if target[0] >= 0 else -1.0
        mirror /= np.sqrt(mirror @ mirror) * (1.0 if mirror[0] > 0 else -1.0)
        whole = np.rint(mirror[1:] / unit(len(vectors), int(bits[j]))).astype(np.int32)
        numbers.append(whole)
        w = whole * unit(len(vectors), int(bits[j]))
        w = np.concatenate([[np.sqrt(max(1.0 - float(w @ w), 0.5))], w])
        rest[j:, j:] -= np.outer(w, (2.0 / (w @ w)) * (w @ rest[j:, j:]))
    return numbers


def basis(numbers: Numbers, dim: int, bits: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """The basis float32 [C, R], column j the j-th vector; the same bits on every machine.

    Cost     4·C·R² operations
    """
    out = np.zeros((dim, len(numbers)), np.float32)
    out[np.arange(len(numbers)), np.arange(len(numbers))] = 1.0
    for j, (w, scaled) in reversed(list(enumerate(zip(*mirrors(numbers, dim, bits), strict=True)))):
        # Columns before j are still axes that this mirror leaves alone.
        block = out[j:, j:]
        block -= scaled[j:, None] * _total(w[j:, None] * block)
    return out


def mirrors(numbers: Numbers, dim: int, bits: npt.NDArray[np.integer]) -> tuple[Singles, Singles]:
    """w and 2·w / wᵀw of all mirrors, float32 [R, C], zero before their first coordinate."""
    w = np.zeros((len(numbers), dim))
    places = np.arange(len(numbers))
    w[places[:, None] < np.arange(dim)] = np.concatenate([np.zeros(0, np.int32), *numbers])
    w *= np.ldexp(unit(dim, 0), -np.asarray(bits[: len(numbers)], np.int32))[:, None]
    w[places, places] = np.sqrt(np.maximum(1.0 - _total((w * w).T), 0.5))
    return w.astype(np.float32), (w * (2.0 / _total((w * w).T))[:, None]).astype(np.float32)


def _total(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The sum over the first axis, one row after another, so that no machine adds in another order."""
    return x.cumsum(0)[-1] if len(x) else np.zeros(x.shape[1], x.dtype)
