"""The loops of `search`. Sums are added up in any order, so that terms may be taken side by side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

_OPTIONS = {"fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}


def _kernel(function: Callable[..., Any]) -> Any:
    """The function, compiled on first call and kept on disk where there is a folder for it."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return njit(**_OPTIONS)(function)


@_kernel
def _dot(a, b):  # type: ignore[no-untyped-def]
    """Σ a·b."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@_kernel
def _branch(rest, row, size, cost, path):  # type: ignore[no-untyped-def]
    """The nearest of all paths' two ways on: their squared distances, ascending, and twice the path, plus one
    where the row is taken away from the sum; how many they are.
    """
    own, n_found = _dot(row, row), 0
    n_next = min(len(cost), 2 * len(size))
    for p in range(len(size)):
        along, middle = 2 * _dot(rest[p], row), size[p] + own
        for way in range(2):
            value = middle + along if way else middle - along
            if n_found == n_next and value >= cost[n_found - 1]:
                continue
            n_found = min(n_found + 1, n_next)
            place = n_found - 1
            while place > 0 and cost[place - 1] > value:
                cost[place], path[place] = cost[place - 1], path[place - 1]
                place -= 1
            cost[place], path[place] = value, 2 * p + way
    return n_found


@_kernel
def _walk(before, row, path, after):  # type: ignore[no-untyped-def]
    """What is left on the chosen ways."""
    for j in range(len(path)):
        sign = np.float32(2 * (path[j] % 2) - 1)
        one, other = before[path[j] // 2], after[j]
        for i in range(len(row)):
            other[i] = one[i] + sign * row[i]


@_kernel
def signs(x, matrix, beam, bits):  # type: ignore[no-untyped-def]
    """bits uint8 [M, K] of rows x [M, D] and a matrix [K, D]."""
    n_bits, dim = matrix.shape
    rest, other = np.empty((beam, dim), np.float32), np.empty((beam, dim), np.float32)
    size, cost = np.empty(beam, np.float32), np.empty(beam, np.float32)
    paths = np.empty((n_bits, beam), np.int64)
    for m in range(len(x)):
        rest[0], size[0], n = x[m], _dot(x[m], x[m]), 1
        for k in range(n_bits):
            n = _branch(rest, matrix[k], size[:n], cost, paths[k])
            _walk(rest, matrix[k], paths[k, :n], other)
            rest, other, size, cost = other, rest, cost, size
        # Distances ascend, so the first path is the best.
        place = 0
        for k in range(n_bits - 1, -1, -1):
            bits[m, k] = 1 - paths[k, place] % 2
            place = paths[k, place] // 2


@_kernel
def words(of_real, of_turned, both, found):  # type: ignore[no-untyped-def]
    """found int64 [M]: where of_real[m, A] + of_turned[m, B] + both[A, B] is largest, as A·n + B."""
    n = of_real.shape[1]
    for m in range(len(of_real)):
        most = np.float32(-np.inf)
        for a in range(n):
            top = np.float32(-np.inf)
            for b in range(n):
                value = of_turned[m, b] + both[a, b]
                top = value if value > top else top
            if of_real[m, a] + top > most:
                most, found[m] = of_real[m, a] + top, a
        a, top, place = found[m], np.float32(-np.inf), 0
        for b in range(n):
            value = of_turned[m, b] + both[a, b]
            if value > top:
                top, place = value, b
        found[m] = a * n + place
