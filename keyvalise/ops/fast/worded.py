"""As `spelled`, for entries that are names of codewords: a tile of them at a time is spelled out, and turned.

Flows in    queries, addresses of a run's names; the plan says where books, lengths and positions lie
Flows out   `part`, as in `tile`
Knows not   how books were made. Scratch is one tile of keys or values, whatever the run's length.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from keyvalise.ops.fast import bits, picked, rotary, scratch, softmax, spelling, tile
from keyvalise.ops.fast.inlined import inlined, merged
from keyvalise.ops.fast.plan import WORDS

_I32, _U8, _F32 = np.int32(0), np.uint8(0), np.float32(0.0)

_pieces_1, _pieces_2, _pieces_4, _pieces_8 = (spelling.pieces(size, WORDS) for size in (1, 2, 4, 8))


@inlined
def _side_by_side_(names, m, book, size, to):  # type: ignore[no-untyped-def]
    """The codewords that m bytes name, one behind the other."""
    if size == 1:
        _pieces_1(names, m, book, to, size)
    elif size == 2:
        _pieces_2(names, m, book, to, size)
    elif size == 4:
        _pieces_4(names, m, book, to, size)
    else:
        _pieces_8(names, m, book, to, size)


@inlined
def _added_(names, m, book, dim, to):  # type: ignore[no-untyped-def]
    """Add the codewords that m bytes name."""
    named = carray(bits.point(_U8, names), (m,))
    for j in range(m):
        spelling.grow(book + 2 * dim * (WORDS * j + np.int64(named[j])), dim, to)


@inlined
def _spell_(codes, side, head, dim, own, room):  # type: ignore[no-untyped-def]
    """room[t] = entry own[t] of all; `codes` is the address of entry 0."""
    books, lengths, m, size = side
    book = books + 2 * head * m * WORDS * size
    for t in range(own.size):
        names, to = codes + own[t] * m, room.ctypes.data + t * room.strides[0]
        if size == dim and m > 1:
            softmax.fill_(room[t], softmax.ZERO, dim)
            _added_(names, m, book, dim, to)
        else:
            _side_by_side_(names, m, book, size, to)
        if lengths != 0:
            softmax.fade_(room[t], bits.half(lengths + 2 * own[t]), dim)


@merged
def read(plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
    """Answer run = (queries, keys, values, log-weights, places, begin, end); row r sees entries before
    limits[r].
    """
    q, k, _, _, index, begin, end = run
    of_keys = (plan.k_books, plan.k_lengths, plan.k_pieces, plan.k_size)
    of_values = (plan.v_books, plan.v_lengths, plan.v_pieces, plan.v_size)
    head = (q - plan.q) // (4 * x.shape[0] * plan.key_dim) % plan.n_heads
    room = scratch.rows(tile.TILE, max(plan.key_dim, plan.value_dim))
    weights, turn = np.empty(tile.TILE, np.float32), np.empty((2, max(1, plan.n_angles)), np.float32)
    before, stride = (k - plan.k) // plan.k_entry, room.strides[0]
    ours = np.empty(tile.TILE, np.int64)
    for start in range(begin, end, tile.TILE):
        n = min(np.int64(tile.TILE), end - start)
        own = ours[:n]
        picked.places_(plan, index + 4 * start if index else index, before + start, own)
        # Asked anew in every round, or the compiler would let go of the room.
        at = room.ctypes.data
        logw = picked.log_weights(plan, own, weights)
        is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
        _spell_(plan.k, of_keys, head, plan.key_dim, own, room)
        if plan.n_angles != 0:
            for t in range(n):
                position = carray(bits.point(_I32, plan.positions + 4 * own[t]), (1,))[0]
                rotary.turn_(plan, np.float32(position), turn, room[t])
        tile.logits_(_F32, plan, q, at, stride, n, x, tile.NONE)
        for r in range(x.shape[0]):
            seen[r] = max(np.int64(0), min(n, limits[r] - start))
            tile.weights_(plan, r, seen[r], logw, x, part)
        _spell_(plan.v, of_values, head, plan.value_dim, own, room)
        tile.values_(_F32, plan, at, stride, seen, is_sparse, x, part, tile.NONE)
