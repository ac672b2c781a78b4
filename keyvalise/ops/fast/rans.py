"""Symbols into bytes and back by table rANS: the bytes of `ops.entropy`, some thousand times faster.

The compiler is imported on first use.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops import entropy
from keyvalise.ops.frequencies import PRECISION, Tables

Integers = npt.NDArray[np.integer]

_FIRST = np.uint64(0)


def encode(symbols: Integers, contexts: Integers, tables: Tables) -> bytes:
    """The message of symbols [n] under the tables that contexts [n] name; as `entropy.encode`."""
    symbols, contexts = entropy.check(symbols, contexts, tables)
    lanes = entropy.n_lanes(len(symbols))
    room = np.empty((lanes, len(symbols) // lanes + 3), np.uint32)
    counts = np.zeros(lanes, np.int64)
    _kernels().write(
        symbols.astype(np.uint8, copy=False),
        contexts.astype(np.int32, copy=False),
        tables.cumulative,
        room,
        counts,
    )
    return entropy.join([row[:n] for row, n in zip(room, counts, strict=True)])


def decode(data: bytes, contexts: Integers, tables: Tables) -> npt.NDArray[np.uint8]:
    """The symbols of a message, whose contexts are known; as `entropy.decode`."""
    if len(contexts) and not 0 <= contexts.min() <= contexts.max() < len(tables.cumulative):
        raise ValueError("a context names no table")
    stacks = Stacks.of(data, len(contexts))
    out = np.empty(len(contexts), np.uint8)
    rows = contexts.astype(np.uint32) << np.uint32(PRECISION)
    _kernels().take(stacks.words, stacks.at, stacks.states, tables.slots.reshape(-1), rows, _FIRST, out)
    stacks.finish()
    return out


class Stacks:
    """The lanes of a message while it is read.

    words   uint32, all lanes;  at int64 [2, lanes]: next word of every lane, and where the lane begins
    states  uint64 [lanes]
    """

    def __init__(self, words: npt.NDArray[np.uint32], at: npt.NDArray[np.int64]):
        self.words, self.at = words, at
        self.states = np.zeros(at.shape[1], np.uint64)
        _kernels().start(self.words, self.at, self.states)

    @staticmethod
    def of(data: bytes, n: int) -> Stacks:
        """The lanes of a message of n symbols.

        Raises   ValueError where the bytes are no such message
        """
        words, counts = entropy.split(data, entropy.n_lanes(n))
        ends = list(itertools.accumulate(counts, initial=0))
        # An unaligned view would be read byte by byte.
        return Stacks(np.array(words, np.uint32), np.array([ends[1:], ends[:-1]], np.int64))

    def finish(self) -> None:
        """A message that was read to its end leaves nothing.

        Raises   ValueError where something is left
        """
        if self.states.any() or (self.at[0] != self.at[1]).any():
            raise ValueError("the message does not end where its symbols end")


def _kernels() -> Any:
    from keyvalise.ops.fast import rans_kernel

    return rans_kernel
