"""As `spelled`, for integers that fill whole words: steps alone are laid out, codes are read where they lie.

Flows in    queries, addresses of a run's codes; the plan says where steps and offsets lie
Flows out   `part`, as in `tile`
Knows not   rows, heads, where runs begin. Channels go in the order in which words hold them: queries are put
            into it, answers out of it. Scratch is the steps of one tile, whatever the run's length.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from keyvalise.ops.fast import bits, picked, scratch, softmax, spelled, spelling, stored, tile
from keyvalise.ops.fast.inlined import inlined, merged


@inlined
def _fit(dim, size, groups, width):  # type: ignore[no-untyped-def]
    n_bytes, of_group = dim * size // 8, (dim + groups - 1) // groups
    return n_bytes % (4 * width) == 0 and (groups == dim or of_group % (4 * width) == 0)


@inlined
def fits(plan, width):  # type: ignore[no-untyped-def]
    """Whether `width` words at a time hold nothing but channels that share a step, or have one each."""
    keys = _fit(plan.key_dim, plan.k_bits, plan.k_groups, width)
    return keys and _fit(plan.value_dim, plan.v_bits, plan.v_groups, width)


@inlined
def _n_steps(side, dim):  # type: ignore[no-untyped-def]
    """Of an entry as they are laid out: one each, or one for the four bytes of every word."""
    return dim if side[3] == dim else dim // 4


@inlined
def _room(plan, keys, values):  # type: ignore[no-untyped-def]
    """For the steps, then the offsets of every entry of a tile."""
    most = max(_n_steps(keys, plan.key_dim), _n_steps(values, plan.value_dim))
    room = scratch.rows(2 * tile.TILE, most)
    return room.reshape((tile.TILE, 2, room.shape[1]))


@inlined
def _order(side, dim, width):  # type: ignore[no-untyped-def]
    """int64 [dim]: which channels follow one another when words are taken apart. They fill lines, too."""
    size = side[2]
    n_bytes, planes = dim * size // 8, 8 // size
    found = np.empty(dim, np.int64)
    for i in range(dim):
        chunk, byte, word = i // (4 * width), i // width % 4, i % width
        found[i] = chunk % planes * n_bytes + 4 * (chunk // planes * width + word) + byte
    return found


@inlined
def _each_(address, order, own):  # type: ignore[no-untyped-def]
    """own[0], own[1] = steps and offsets of all channels from an address on, in order."""
    for i in range(order.size):
        at = address + 4 * order[i]
        own[0, i], own[1, i] = bits.half(at), bits.half(at + 2)


@inlined
def _groups(side, order, width):  # type: ignore[no-untyped-def]
    """int64: the group whose step serves a plane of so many words."""
    dim, groups = order.size, side[3]
    of_group, found = (dim + groups - 1) // groups, np.empty(dim // (4 * width), np.int64)
    for chunk in range(found.size):
        found[chunk] = order[4 * width * chunk] // of_group
    return found


@inlined
def _sorted_(part, order):  # type: ignore[no-untyped-def]
    """Put the channels of answers where they belong."""
    given = np.empty(order.size, np.float32)
    for r in range(part.shape[0]):
        given[:] = part[r, : order.size]
        for i in range(order.size):
            part[r, order[i]] = given[i]


@inlined
def _lay_(how, codes, side, order, group_of, own, steps, places):  # type: ignore[no-untyped-def]
    """places[0] = where codes of own begin, places[1] = where their steps do; each row of steps once."""
    scales, _, _, groups, _ = side
    known, slot, gap = np.int64(-1), np.int64(-1), steps.strides[1]
    for t in range(own.size):
        row = spelled.row_of(side, own[t])
        if row != known:
            known, slot = row, slot + 1
            address, to = scales + 4 * row * groups, steps.ctypes.data + slot * steps.strides[0]
            if groups == order.size:
                _each_(address, order, steps[slot])
            else:
                for chunk in range(group_of.size):
                    spelling.pair(how, address + 4 * group_of[chunk], to + chunk * how.of_chunk, gap)
        places[0, t] = codes + own[t] * how.n_bytes
        places[1, t] = steps.ctypes.data + slot * steps.strides[0]


def reader(form: Any, width: int) -> Any:
    """The function that answers a block of a run, so many words at a time."""

    @inlined
    def told(side, dim, steps, places):  # type: ignore[no-untyped-def]
        """How entries of a side lie."""
        size, is_each = side[2], side[3] == dim
        of_chunk, of_byte = (16 * width, 4 * width) if is_each else (4 * width, 0)
        return form(dim * size // 8, 8 // size, size, places.strides[0], steps.strides[1], of_chunk, of_byte)

    @merged
    def read(plan, run, limits, x, seen, part):  # type: ignore[no-untyped-def]
        """Answer run = (queries, keys, values, log-weights, places, begin, end); row r sees entries before
        limits[r].
        """
        q, k, _, _, index, begin, end = run
        keys, values = spelled.sides(plan)
        of_keys, of_values = _order(keys, plan.key_dim, width), _order(values, plan.value_dim, width)
        in_keys, in_values = _groups(keys, of_keys, width), _groups(values, of_values, width)
        queries = scratch.rows(x.shape[0], plan.key_dim)
        picked.ordered_(q, of_keys, queries)
        places, steps = np.empty((2, tile.TILE), np.int64), _room(plan, keys, values)
        how_keys, how_values = (
            told(keys, plan.key_dim, steps, places),
            told(values, plan.value_dim, steps, places),
        )
        weights, before = np.empty(tile.TILE, np.float32), (k - plan.k) // plan.k_entry
        for start in range(begin, end, tile.TILE):
            n = min(np.int64(tile.TILE), end - start)
            own = np.arange(before + start, before + start + n)
            if index:
                own = picked.places(plan, index + 4 * start, n)
            logw = picked.log_weights(plan, own, weights)
            is_sparse = plan.logw != 0 and softmax.has_nothing(logw, n)
            _lay_(how_keys, plan.k, keys, of_keys, in_keys, own, steps, places)
            # Addresses are asked anew in every round, or the compiler would let go of what lies there.
            at = places.ctypes.data
            ahead = np.int64(0) if index else plan.v + own[0] * plan.v_entry
            later = (
                plan.k + (own[0] + tile.TILE) * plan.k_entry if start + 2 * tile.TILE <= end else np.int64(0)
            )
            tile.logits_(how_keys, plan, queries.ctypes.data, at, 8, n, x, ahead)
            for r in range(x.shape[0]):
                seen[r] = max(np.int64(0), min(n, limits[r] - start))
                tile.weights_(plan, r, seen[r], logw, x, part)
            _lay_(how_values, plan.v, values, of_values, in_values, own, steps, places)
            tile.values_(how_values, plan, at, 8, seen, is_sparse, x, part, np.int64(0) if index else later)
        _sorted_(part, of_values)

    return read


eights, sixteens = reader(stored.Eights, 8), reader(stored.Sixteens, 16)
