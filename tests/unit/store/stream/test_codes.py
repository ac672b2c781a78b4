"""Codes of a chunk: delta where it pays, refinement that costs no more than going there at once."""

from __future__ import annotations

import numpy as np

from keyvalise.ops import fitted, frequencies, ladder
from keyvalise.store.stream import codes
from keyvalise.store.stream.wire import Reader, Writer


def components(rank: int = 31, n: int = 700, *, drift: float = 0.0) -> np.ndarray:
    """Numbers of falling size; with drift, neighbours resemble one another."""
    rng = np.random.default_rng(rank)
    noise = rng.laplace(size=(rank, n)) * np.exp(0.3 * rng.normal(size=n))
    if drift:
        noise = (1 - drift) * noise + drift * np.cumsum(rng.normal(size=(rank, n)), 1)
    return noise * 8 * np.exp(-np.arange(rank) / rank * 5)[:, None]


def written(found: np.ndarray, parent: codes.Coded | None = None) -> tuple[bytes, codes.Coded]:
    out = Writer()
    held = codes.write(out, found, (-7, 3), parent)
    return bytes(out.data), held


def test_codes_come_back() -> None:
    found = ladder.quantize(components(), 1.0)
    data, _ = written(found)
    source = Reader(data)
    held = codes.read(source, 700, 31, None)
    source.finish()
    assert np.array_equal(held.codes, found) and held.centre == (-7, 3)


def test_differences_are_chosen_where_they_pay() -> None:
    still, wild = ladder.quantize(components(drift=0.5), 1.0), ladder.quantize(components(), 1.0)
    assert written(still)[1].is_delta and not written(wild)[1].is_delta
    data, _ = written(still)
    assert np.array_equal(codes.read(Reader(data), 700, 31, None).codes, still)


def test_refining_costs_little_more_than_going_there_at_once() -> None:
    y = components()
    fine = ladder.quantize(y, 0.5)
    coarse = ladder.coarsen(fine, 1)
    # Some components become worth writing at the finer rung only.
    first, parent = written(coarse[:20])
    second, held = written(fine, parent)
    source = Reader(second)
    got = codes.read(source, 700, 31, codes.read(Reader(first), 700, 20, None))
    source.finish()
    assert np.array_equal(got.codes, fine) and np.array_equal(got.expected, held.expected)
    assert len(first) + len(second) < 1.03 * len(written(fine)[0])


def test_two_integers_per_component_beat_a_table_of_its_own() -> None:
    """What is sent beside the symbols included, and what loudness saves."""
    found = ladder.quantize(components(), 1.0)
    own = frequencies.empirical((found - found.min()).clip(0, 255).ravel(), np.repeat(np.arange(31), 700), 31)
    symbols = (found - found.min()).clip(0, 255).ravel()
    bits = frequencies.entropy(symbols, np.repeat(np.arange(31), 700), own)
    used = sum(len(np.unique(row)) for row in found)
    assert 8 * len(written(found)[0]) < bits + 8 * used
    assert 8 * len(written(found)[0]) < 1.01 * fitted.cost(found)
