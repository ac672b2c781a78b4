"""The reference coder: what comes out is what went in, at the cost that the tables promise."""

from __future__ import annotations

import numpy as np
import pytest

from keyvalise.ops import entropy, frequencies
from keyvalise.ops.frequencies import Tables


def message(n: int, n_tables: int = 5, n_symbols: int = 30) -> tuple[np.ndarray, np.ndarray, Tables]:
    rng = np.random.default_rng(n)
    weights = rng.integers(1, 900, (n_tables, n_symbols)) ** 2
    weights[-1] = 0
    weights[-1, 9] = 1
    tables = Tables.of(frequencies.normalize(weights))
    contexts = rng.integers(0, n_tables, n)
    draws = rng.integers(0, frequencies.TOTAL, n)
    symbols = (tables.cumulative[contexts] <= draws[:, None]).sum(1) - 1
    return symbols, contexts, tables


@pytest.mark.parametrize("n", [0, 1, 7, 63, 130, entropy.MANY + 5])
def test_symbols_come_back(n: int) -> None:
    symbols, contexts, tables = message(n)
    data = entropy.encode(symbols, contexts, tables)
    assert np.array_equal(entropy.decode(data, contexts, tables), symbols)


@pytest.mark.parametrize("n", [130, entropy.MANY + 5])
def test_the_length_is_the_entropy(n: int) -> None:
    symbols, contexts, tables = message(n)
    bits = frequencies.entropy(symbols, contexts, tables)
    lanes = entropy.n_lanes(n)
    assert bits <= 8 * len(entropy.encode(symbols, contexts, tables)) <= 1.01 * bits + lanes * (33 + 16)


def test_contexts_may_follow_from_symbols_before() -> None:
    symbols, contexts, tables = message(63)
    reader = entropy.Reader(entropy.encode(symbols, contexts, tables), 63, tables)
    assert np.array_equal(reader.take(contexts[:7]), symbols[:7])
    assert np.array_equal(reader.take(contexts[7:]), symbols[7:])
    reader.finish()


def test_a_message_ends_where_its_symbols_end() -> None:
    symbols, contexts, tables = message(63)
    data = entropy.encode(symbols, contexts, tables)
    with pytest.raises(ValueError, match="does not end"):
        entropy.decode(data, contexts[:-9], tables)
    with pytest.raises(ValueError, match="do not fit its bytes"):
        entropy.decode(data[:-1], contexts, tables)
    with pytest.raises(ValueError, match="ends before"):
        entropy.decode(b"\xff", contexts, tables)


def test_impossible_symbols_are_refused() -> None:
    tables = Tables.of(np.array([[4096, 0]]))
    zero = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="no slots"):
        entropy.encode(zero + 1, zero, tables)
    with pytest.raises(ValueError, match="outside the tables"):
        entropy.encode(zero + 2, zero, tables)
    with pytest.raises(ValueError, match="as many"):
        entropy.encode(zero, np.zeros(2, np.int64), tables)
