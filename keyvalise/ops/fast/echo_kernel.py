"""The loop of `echo`: runs are told apart by where they first ended, in a table of open addresses."""

from __future__ import annotations

import numpy as np

from keyvalise.ops.fast.compiled import kernel

_U = np.uint64
_STIR = _U(0x9E3779B97F4A7C15)
_HALF = _U(32)


@kernel
def find(ids, depths, keys, last, of, depth):  # type: ignore[no-untyped-def]
    """Fill of and depth.

    keys   run before and id of every run in the table;  last: where it first and last ended, −1 = free
    """
    n, mask = len(ids), _U(len(keys) - 1)
    run, longer = np.zeros(n, np.int64), np.empty(n, np.int64)
    for d in range(depths):
        last[:] = -1
        for i in range(d, n):
            before = run[i - 1] if d else 0
            place = ((_U(before) * _STIR ^ _U(ids[i])) * _STIR >> _HALF) & mask
            while last[place, 0] >= 0 and (keys[place, 0] != before or keys[place, 1] != ids[i]):
                place = (place + _U(1)) & mask
            if last[place, 0] >= 0:
                of[i], depth[i] = last[place, 1], d
            else:
                keys[place, 0], keys[place, 1], last[place, 0] = before, ids[i], i
            last[place, 1] = i
            longer[i] = last[place, 0]
        for i in range(d, n):
            run[i] = longer[i]
        # A token too near the start has no run so long, so it must not be taken for another's.
        for i in range(min(d, n)):
            run[i] = -1 - i
