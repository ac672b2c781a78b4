"""Which table suits which component, by what its codes would cost."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from keyvalise.ops import densities, energy, strips
from keyvalise.ops.echo import Echo
from keyvalise.ops.frequencies import Tables
from keyvalise.ops.strips import Plan

Codes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Whole = npt.NDArray[np.int64]

_WIDEST = 6.0
"""Mean size of a component's numbers that the tables still write well; larger ones give bits away."""

_ESCAPE_BITS = 32.0
_STEPS = np.arange(-24, 9)
"""How far a class may move the scale."""


@functools.cache
def prices() -> Floats:
    """Bits of every number [tables, N_SYMBOLS]; what a table does not list costs its escape."""
    bits = densities.tables().bits
    escape = bits[:, densities.ESCAPE :] + _ESCAPE_BITS
    listed = np.where(np.isfinite(bits), bits, escape)
    listed[:, densities.ESCAPE :] = escape
    return listed.astype(np.float32)


def plan(codes: Codes, echo: Echo | None = None) -> Plan:
    """The cheapest tables for codes [R, N], first without contexts, then the classes' shifts."""
    start = _start(codes)
    if echo is not None:
        # What is written depends on which codes are differences, and that on the tables: once is near enough.
        _, is_echoed = energy.classes(codes, start.expected, echo)
        start = _start(strips.differences(codes, is_echoed, echo))
    classes, is_echoed = energy.classes(codes, start.expected, echo)
    symbols = _symbols(strips.differences(codes, is_echoed, echo), start.low)
    n_classes = energy.CLASSES if echo is None else energy.ALL_CLASSES
    return replace(start, shifts=shifts(symbols, classes, start.tables, prices(), n_classes))


def _start(codes: Codes) -> Plan:
    """The cheapest tables without contexts."""
    low = _low(codes)
    counts = histograms(_symbols(codes, low), densities.N_SYMBOLS)
    return Plan((counts @ prices().T).argmin(1), low, np.zeros(energy.CLASSES, np.int64))


def cost(codes: Codes) -> float:
    """Bits of codes [R, N] in the best table of every component, without contexts."""
    low = _low(codes)
    costs = (histograms(_symbols(codes, low), densities.N_SYMBOLS) @ prices().T).min(1)
    return float(costs.sum() + low.sum(dtype=np.int64) * codes.shape[1])


def _low(codes: Codes) -> npt.NDArray[np.uint8]:
    """How many bits of every component are written as they are."""
    sizes = np.abs(codes).mean(1) if codes.shape[1] else np.zeros(len(codes))
    return np.ceil(np.log2(np.maximum(sizes / _WIDEST, 1.0))).astype(np.uint8)


def _symbols(codes: Codes, low: npt.NDArray[np.uint8]) -> Codes:
    """What the tables would write."""
    high, _ = strips.split(codes, low)
    return np.where(np.abs(high) > densities.MOST, densities.ESCAPE, high + densities.MOST)


def histograms(symbols: npt.NDArray[np.integer], n: int) -> Floats:
    """How often every component has every symbol [R, n]."""
    rows = np.arange(len(symbols))[:, None] * n + symbols
    return np.bincount(rows.ravel(), minlength=len(symbols) * n).reshape(-1, n).astype(np.float32)


def shifts(
    symbols: npt.NDArray[np.integer],
    classes: npt.NDArray[np.uint8],
    tables: Whole,
    prices: Floats,
    n_classes: int = energy.CLASSES,
) -> Whole:
    """For every class the step of scale that makes its symbols cheapest [n_classes].

    Shapes   symbols [R, N], classes [R, N], tables [R], prices [tables, S]
    """
    n_symbols = prices.shape[1]
    cells = (np.arange(len(symbols))[:, None] * n_classes + classes) * n_symbols + symbols
    counts = np.bincount(cells.ravel(), minlength=len(symbols) * n_classes * n_symbols)
    counts = counts.reshape(len(symbols), n_classes, n_symbols).astype(np.float32)
    family, scale = np.divmod(tables, densities.SCALES)
    costs = []
    for step in _STEPS:
        moved = densities.index(family, np.clip(scale + step, 0, densities.SCALES - 1))
        costs.append(np.einsum("rcs,rs->c", counts, prices[moved]))
    best = np.stack(costs).argmin(0)
    return np.where(counts.sum((0, 2)) > 0, _STEPS[best], 0)


@functools.cache
def digit_tables() -> Tables:
    """Tables of the digit that refines a parent: row 4·table + min(|parent|, 3), see `ladder.digits`."""
    from keyvalise.ops import frequencies, ladder

    mass = densities.masses()
    rows = []
    for parent in range(PARENTS):
        first = densities.MOST + ladder.FACTOR * parent - 1
        rows.append(mass[:, first : first + ladder.FACTOR])
    weights = np.floor(np.stack(rows, 1).reshape(-1, ladder.FACTOR) * 2.0**36).astype(np.int64) + 1
    return Tables.of(frequencies.normalize(weights))


PARENTS = 4
"""Sizes of parents that are told apart; from the last on, a bell is nearly straight."""
