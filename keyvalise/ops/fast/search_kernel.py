"""The loops of `search`. Sums are added up in any order, so that terms may be taken side by side."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import seeing

kernel = seeing(fastmath={"reassoc", "contract", "nsz", "nnan"}, forceinline=True)


@kernel
def _dot(a, b):  # type: ignore[no-untyped-def]
    """Σ a·b."""
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@kernel
def _insert(value, mark, cost, path, n_found):  # type: ignore[no-untyped-def]
    """Puts a value among the smallest so far, which ascend; how many there are then."""
    n_found = min(n_found + 1, len(cost))
    place = n_found - 1
    while place > 0 and cost[place - 1] > value:
        cost[place], path[place] = cost[place - 1], path[place - 1]
        place -= 1
    cost[place], path[place] = value, mark
    return n_found


@kernel
def signs(x, matrix, beam, bits):  # type: ignore[no-untyped-def]
    """bits uint8 [M, K] of rows x [M, D] and a matrix [K, D]."""
    n_bits, dim = matrix.shape
    rest, other = np.empty((beam, dim), np.float32), np.empty((beam, dim), np.float32)
    size, cost = np.empty(beam, np.float32), np.empty(beam, np.float32)
    paths = np.empty((n_bits, beam), np.int64)
    for m in range(len(x)):
        rest[0], size[0], n = x[m], _dot(x[m], x[m]), 1
        for k in range(n_bits):
            row, path, n_found, n_next = matrix[k], paths[k], 0, min(beam, 2 * n)
            own = _dot(row, row)
            for p in range(n):
                along, middle = 2 * _dot(rest[p], row), size[p] + own
                for way in range(2):
                    value = middle + along if way else middle - along
                    if n_found < n_next or value < cost[n_next - 1]:
                        n_found = _insert(value, 2 * p + way, cost[:n_next], path, n_found)
            for j in range(n_next):
                sign, before = np.float32(2 * (path[j] % 2) - 1), rest[path[j] // 2]
                for i in range(dim):
                    other[j, i] = before[i] + sign * row[i]
            rest, other, size, cost, n = other, rest, cost, size, n_next
        # Distances ascend, so the first path is the best.
        place = 0
        for k in range(n_bits - 1, -1, -1):
            bits[m, k] = 1 - paths[k, place] % 2
            place = paths[k, place] // 2


@kernel
def words(x, tables, turned, sizes, beam, codes):  # type: ignore[no-untyped-def]
    """codes int64 [M, R] of rows x [M, D]: A·n + B in tables [R, n, D], turned the same times i, sizes
    [R, n, n] the codewords' squared lengths.
    """
    n_stages, n, dim = tables.shape
    rest, other = np.empty((beam, dim), np.float32), np.empty((beam, dim), np.float32)
    size, cost = np.empty(beam, np.float32), np.empty(beam, np.float32)
    paths, along = np.empty((n_stages, beam), np.int64), np.empty(n, np.float32)
    for m in range(len(x)):
        rest[0], size[0], n_paths = x[m], _dot(x[m], x[m]), 1
        for r in range(n_stages):
            path, n_found, n_next = paths[r], 0, min(beam, n_paths * n * n)
            for p in range(n_paths):
                for b in range(n):
                    along[b] = -2 * _dot(rest[p], turned[r, b])
                for a in range(n):
                    first, row = size[p] - 2 * _dot(rest[p], tables[r, a]), sizes[r, a]
                    least = along[0] + row[0]
                    for b in range(1, n):
                        value = along[b] + row[b]
                        least = value if value < least else least
                    if n_found == n_next and first + least >= cost[n_next - 1]:
                        continue
                    for b in range(n):
                        value = first + along[b] + row[b]
                        if n_found < n_next or value < cost[n_next - 1]:
                            mark = (p * n + a) * n + b
                            n_found = _insert(value, mark, cost[:n_next], path, n_found)
            for j in range(n_next):
                code = path[j] % (n * n)
                before, one, two = rest[path[j] // (n * n)], tables[r, code // n], turned[r, code % n]
                for i in range(dim):
                    other[j, i] = before[i] - one[i] - two[i]
            rest, other, size, cost, n_paths = other, rest, cost, size, n_next
        place = 0
        for r in range(n_stages - 1, -1, -1):
            codes[m, r] = paths[r, place] % (n * n)
            place = paths[r, place] // (n * n)
