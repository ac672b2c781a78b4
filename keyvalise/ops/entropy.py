"""Symbols into bytes and back at the cost that their tables promise: the reference coder, constriction's ANS.

    lanes     symbol i goes to lane i mod n_lanes, each a stack of its own, so that a fast decoder can follow
              them at the same time
    message   the number of 32-bit words of every lane as a varint, then the words of all lanes, little-endian

Slow and plain: one symbol at a time. `ops.fast.rans` writes the same bytes, word for word.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from keyvalise.ops.frequencies import TOTAL, Tables

Integers = npt.NDArray[np.integer]
Words = npt.NDArray[np.uint32]

LANES = 8

MANY = 2048
"""Symbols from which on several lanes cost less than they save."""


def n_lanes(n: int) -> int:
    """Lanes of a message of n symbols."""
    return LANES if n >= MANY else 1


def encode(symbols: Integers, contexts: Integers, tables: Tables) -> bytes:
    """The message of symbols [n] under the tables that contexts [n] name.

    Cost     −log2(frequency / TOTAL) bits per symbol and at most 33 bits per lane
    Raises   ValueError for a symbol that its table gives no slots, and for shapes that differ
    """
    symbols, contexts = check(symbols, contexts, tables)
    lanes = []
    for lane in range(n_lanes(len(symbols))):
        coder = _coder()
        models = _Models(tables)
        own = slice(lane, None, n_lanes(len(symbols)))
        for symbol, context in zip(symbols[own][::-1], contexts[own][::-1], strict=True):
            model, owned = models.of(int(context))
            if model is not None:
                coder.encode_reverse(int(np.searchsorted(owned, symbol)), model)
        lanes.append(coder.get_compressed())
    return join(lanes)


def decode(data: bytes, contexts: Integers, tables: Tables) -> npt.NDArray[np.uint8]:
    """The symbols of a message, whose contexts are known.

    Raises   ValueError where the bytes are no message of so many symbols
    """
    reader = Reader(data, len(contexts), tables)
    symbols = reader.take(contexts)
    reader.finish()
    return symbols


class Reader:
    """A message of n symbols while it is read, for contexts that depend on symbols before."""

    def __init__(self, data: bytes, n: int, tables: Tables):
        words, counts = split(data, n_lanes(n))
        lanes = np.split(words.astype(np.uint32), np.cumsum(counts)[:-1])
        self.coders = [_coder(words) for words in lanes]
        self.models = _Models(tables)
        self.at = 0

    def take(self, contexts: Integers) -> npt.NDArray[np.uint8]:
        """The next symbols, one per context."""
        out = np.zeros(len(contexts), np.uint8)
        for i, context in enumerate(contexts):
            model, owned = self.models.of(int(context))
            coder = self.coders[self.at % len(self.coders)]
            out[i] = owned[0 if model is None else int(coder.decode(model))]
            self.at += 1
        return out

    def finish(self) -> None:
        """A message that was read to its end leaves nothing.

        Raises   ValueError where something is left
        """
        if not all(coder.is_empty() for coder in self.coders):
            raise ValueError("the message does not end where its symbols end")


def check(symbols: Integers, contexts: Integers, tables: Tables) -> tuple[Integers, Integers]:
    """Symbols and contexts as flat arrays that the tables can write."""
    symbols, contexts = np.asarray(symbols), np.asarray(contexts)
    if symbols.ndim != 1 or symbols.shape != contexts.shape:
        raise ValueError(f"symbols {symbols.shape} and contexts {contexts.shape} must be flat and as many")
    n_tables, n_symbols = tables.frequencies.shape
    if len(symbols) and not (
        0 <= contexts.min() <= contexts.max() < n_tables and 0 <= symbols.min() <= symbols.max() < n_symbols
    ):
        raise ValueError(f"symbols or contexts lie outside the tables [{n_tables}, {n_symbols}]")
    if not np.all(tables.frequencies[contexts, symbols]):
        raise ValueError("a symbol has no slots in its table")
    return symbols, contexts


def join(lanes: list[Words]) -> bytes:
    """A message of the words of every lane."""
    head = bytearray()
    for words in lanes:
        n = len(words)
        while n >= 128:
            head.append(n & 127 | 128)
            n >>= 7
        head.append(n)
    return bytes(head) + b"".join(words.astype("<u4").tobytes() for words in lanes)


def split(data: bytes, lanes: int) -> tuple[Words, list[int]]:
    """The words of all lanes and how many each has.

    Raises   ValueError where the lengths do not fit the bytes
    """
    counts, at = [], 0
    for _ in range(lanes):
        n = shift = 0
        while True:
            if at >= len(data) or shift > 28:
                raise ValueError("a message ends before the lengths of its lanes do")
            byte = data[at]
            at += 1
            n |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        counts.append(n)
    if len(data) - at != 4 * sum(counts):
        raise ValueError("the lengths of a message's lanes do not fit its bytes")
    return np.frombuffer(data, "<u4", offset=at), counts


class _Models:
    """One categorical model per table, made when first used; None for a table with a single symbol."""

    def __init__(self, tables: Tables):
        self.frequencies = tables.frequencies
        self.made: dict[int, tuple[Any, Integers]] = {}

    def of(self, context: int) -> tuple[Any, Integers]:
        """The model of a table, and the symbols that have slots."""
        if context not in self.made:
            import constriction

            row = self.frequencies[context]
            owned = np.flatnonzero(row)
            model = None if len(owned) == 1 else _exactly(constriction, row[owned])
            self.made[context] = (model, owned)
        return self.made[context]


def _coder(words: Words | None = None) -> Any:
    import constriction

    stack = constriction.stream.stack
    return stack.AnsCoder() if words is None else stack.AnsCoder(np.ascontiguousarray(words))


def _exactly(constriction: Any, frequencies: Integers) -> Any:
    """Multiples of 2⁻¹² are found exactly by the search for the best approximation."""
    return constriction.stream.model.Categorical(frequencies / TOTAL, perfect=True)
