"""Landmarks: whose keys speak for a unit, by plain loops, and what becomes of units of one entry."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.observe.mass import MassObserver
from keyvalise.ops import units
from keyvalise.retrieve.centroid import CentroidSummary
from keyvalise.retrieve.landmarks import LandmarksSummary
from keyvalise.types.retrieve import Cut, Table
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_entries, make_env, make_geometry, observed, random

ENV = make_env()
LENGTHS = [[63, 40], [7, 0]]


def cut(mass: Tensor | None = None, n_units: int = 9, weighs: bool = False) -> Cut:
    """63 entries strewn over the units of two heads and rows."""
    columns = {} if mass is None else {"mass": mass}
    logw = random(2, 2, 63, seed=4) if weighs else None
    entries = make_entries(random(2, 2, 63, 10), lengths=LENGTHS, columns=columns, logw=logw)
    unit = (random(2, 2, 63, seed=3).abs() * 1e4).long() % n_units
    unit = torch.where(entries.live, unit, 0)
    return Cut(entries, unit, units.sizes(unit, entries.live, n_units), {})


def table(found: Cut, summaries: dict[str, Tensor]) -> Table:
    return Table(found.sizes, summaries, lambda home: torch.empty(0))


@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("n", [1, 4])
def test_the_definition(n: int, weighs: bool) -> None:
    mass = random(2, 2, 63, seed=1).square()
    found = cut(mass, weighs=weighs)
    built = LandmarksSummary(n).build(ENV, found)["landmark"]
    assert built.shape == (2, 2, 9, 10) and built.isfinite().all()
    for row, head, unit in torch.cartesian_prod(*map(torch.arange, (2, 2, 9))).tolist():
        own = [t for t in range(LENGTHS[row][head]) if found.unit[row, head, t] == unit]
        own = sorted(own, key=lambda t: -mass[row, head, t])[:n]
        if not own:
            continue
        logw = found.entries.logw
        weight = torch.ones(len(own)) if logw is None else logw[row, head, own].exp()
        keys = found.entries.keys()[row, head, own]
        want = (weight[:, None] * keys).sum(0) / weight.sum()
        assert_close(built[row, head, unit], want, "score_fp32", what=f"unit {unit}")


def test_few_entries_and_no_votes() -> None:
    found = cut(random(2, 2, 63, seed=1).square())
    all_of_them = LandmarksSummary(63).build(ENV, found)["landmark"]
    assert_close(all_of_them, CentroidSummary().build(ENV, found)["centroid"], "score_fp32")
    assert not torch.allclose(all_of_them, LandmarksSummary(2).build(ENV, found)["landmark"], atol=0.1)
    even = LandmarksSummary(1).build(ENV, cut())["landmark"]
    for unit in range(9):
        first = found.unit[0, 0].tolist().index(unit)
        assert_close(even[0, 0, unit], found.entries.keys()[0, 0, first], "score_fp32", what="the earliest")


def test_a_unit_of_one_entry_is_ranked_like_its_key() -> None:
    entries = make_entries(random(1, 2, 17, 10), columns={"mass": random(1, 2, 17, seed=1).square()})
    unit = torch.arange(17).expand(1, 2, 17)
    found = Cut(entries, unit, units.sizes(unit, entries.live, 17), {})
    q = random(1, 6, 10, seed=7)
    keys = entries.keys().repeat_interleave(3, 1)
    for part in (LandmarksSummary(measure="dot"), LandmarksSummary()):
        near = keys if part.measure == "dot" else torch.nn.functional.normalize(keys, dim=-1)
        want = ENV.geometry.scale * (near @ q[..., None])[..., 0]
        assert_close(part.score(ENV, table(found, part.build(ENV, found)), q), want, "score_fp32")


def test_a_cosine_knows_directions_alone() -> None:
    mass, q = random(2, 2, 63, seed=1).square(), random(2, 6, 10, seed=7)
    found, part = cut(mass), LandmarksSummary()
    long = replace(found, entries=replace(found.entries, decode_keys=lambda: 5 * found.entries.keys()))
    logits = [part.score(ENV, table(x, part.build(ENV, x)), q) for x in (found, long)]
    assert_close(logits[0], logits[1], "score_fp32")
    dot = replace(part, measure="dot")
    near, far = (dot.score(ENV, table(x, dot.build(ENV, x)), q) for x in (found, long))
    assert_close(5 * near, far, "score_fp32")


def test_votes_are_those_of_the_observer() -> None:
    history = History.of(make_geometry(), (63, 20))
    _, entries = observed(LandmarksSummary().observers[0], make_env(history.geometry), history, (31,))
    unit = torch.arange(63).expand(2, 2, 63) // 7
    found = Cut(entries, unit, units.sizes(unit, entries.live, 9), {})
    attention = history.compact(history.attention().unflatten(1, (2, 3)).mean(2).sum(2))
    built = LandmarksSummary(2).build(make_env(history.geometry), found)["landmark"]
    for row, head, unit_ in ((0, 0, 0), (0, 1, 8), (1, 1, 1)):
        own = [t for t in range(7 * unit_, 7 * unit_ + 7) if t < history.counts[row]]
        best = sorted(own, key=lambda t: -attention[row, head, t])[:2]
        assert_close(built[row, head, unit_], entries.keys()[row, head, best].mean(0), "score_fp32")


def test_bytes_are_those_of_the_summary() -> None:
    part, found = LandmarksSummary(), cut()
    built = part.build(ENV, found)
    assert sum(x.nbytes for x in built.values()) == part.unit_bytes(ENV.geometry) * 2 * 2 * 9
    assert part.observers == (MassObserver(),)
    assert_same(found.entries.live, cut().entries.live, what="nothing given is changed")
