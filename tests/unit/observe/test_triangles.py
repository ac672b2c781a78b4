"""Spans of windows: the same however a text comes and whatever pads it, and what is kept of a window."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.observe.triangles import TrianglesObserver
from keyvalise.ops import triangles
from keyvalise.types.geometry import Geometry
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_env, make_geometry, observed

OBSERVER = TrianglesObserver(13, 1.1, 2, 6, 3)
COUNTS = (63, 40, 12)


def recomputed(history: History, row: int, observer: TrianglesObserver = OBSERVER) -> list[float]:
    """Spans of one row from its tokens alone, window by window."""
    n, w, numbers, before = history.counts[row], observer.window, [], 0
    rule = triangles.Rule(observer.theta, observer.least, observer.most)
    q, k = (x[row : row + 1, :, 63 - n :] for x in (history.q, history.k))
    for begin in range(0, n, w):
        if begin + w > n:
            numbers += [before] * (n - begin)
            break
        span, first = slice(begin, begin + w), torch.tensor([min(max(observer.sinks - begin, 0), w)])
        shape = history.geometry
        seen = triangles.attention(
            q[:, :, span], k[:, :, span], first, scale=shape.scale, softcap=shape.softcap
        )
        own = rule.numbers(seen, first)[0].tolist()
        numbers += [before + number for number in own]
        before += own[-1] + 1
    return [float(number) for number in numbers]


def shorter(history: History, n: int) -> History:
    """The first n tokens of one row."""
    q, k, v = (x[:, :, :n] for x in (history.q, history.k, history.v))
    return History(history.geometry, q, k, v, (n,))


def column(history: History, cuts: tuple[int, ...], observer: TrianglesObserver = OBSERVER) -> Tensor:
    stats, entries = observed(observer, make_env(history.geometry), history, cuts)
    found = entries.columns[observer.column]
    assert stats.keys() == observer.stats
    return torch.where(entries.live, found, -1.0)


@pytest.mark.parametrize("softcap", [None, 1.0])
@pytest.mark.parametrize(
    "cuts", [(), (31,), (13, 26, 39, 52), (50, 57, 58), (1, 2, 40), tuple(range(1, 63))], ids=len
)
def test_spans_do_not_know_how_the_text_came(cuts: tuple[int, ...], softcap: float | None) -> None:
    history = History.of(make_geometry(softcap=softcap), COUNTS)
    got = column(history, cuts)
    for row, n in enumerate(COUNTS):
        want = recomputed(history, row)
        assert got[row, :, :n].tolist() == [want] * 2 and bool((got[row, :, n:] == -1).all())
    assert max(recomputed(history, 0)) > 8


@pytest.mark.parametrize("cuts", [(), (23, 24, 51), tuple(range(1, 63))], ids=len)
def test_what_is_kept_is_the_window_that_is_not_complete(cuts: tuple[int, ...]) -> None:
    history, env = History.of(make_geometry(), COUNTS), make_env()
    stats, _ = observed(OBSERVER, env, history, cuts)
    for name, x in zip(OBSERVER.names, (history.q, history.k), strict=False):
        assert stats[name].shape == (3, x.shape[1], 13, 10)
        for row, n in enumerate(COUNTS):
            kept = n % 13
            assert_same(stats[name][row, :, :kept], x[row, :, 63 - kept :])
            assert not bool(stats[name][row, :, kept:].any())
    # The window that is not complete has the next number, and that of the last row is the first of all.
    assert stats[OBSERVER.names[2]].tolist() == [recomputed(history, row)[-1] for row in range(3)]
    assert stats[OBSERVER.names[2]][2] == 0


def test_a_window_is_one_span_until_it_is_complete() -> None:
    history = History.of(make_geometry(), (63,))
    got = column(history, (30, 31))
    assert len(set(got[0, 0, 52:].tolist())) == 1 and len(set(got[0, 0, :13].tolist())) > 1
    assert len(set(column(history, (), replace(OBSERVER, window=70))[0, 0].tolist())) == 1


def test_entries_that_have_left_are_not_missed() -> None:
    history, env = History.of(make_geometry(), (63,)), make_env()
    stats, before = observed(OBSERVER, env, shorter(history, 50))
    stays = torch.tensor([i % 3 != 1 or i >= 50 for i in range(63)])
    later, old = history.entries(), before.columns[OBSERVER.column]
    fewer = replace(
        later,
        lengths=torch.full((1, 2), int(stays.sum()), dtype=torch.int32),
        live=later.live[..., stays],
        ordinals=later.ordinals[..., stays],
        columns={OBSERVER.column: torch.nn.functional.pad(old, (0, 13))[..., stays]},
    )
    _, columns = OBSERVER.update(env, stats, history.piece(50, 63), fewer)
    assert_same(columns[OBSERVER.column], column(history, ())[..., stays])


def test_bytes_are_those_of_the_statistics() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        shape = Geometry(3, 6, 2, 10, 7, dtype, 0.3)
        stats = OBSERVER.init(make_env(shape), 1, "cpu")
        assert OBSERVER.stat_bytes(shape) == sum(t.nbytes for t in stats.values())
        assert OBSERVER.stats == stats.keys()


def test_cuts_do_not_show_in_a_narrow_cache() -> None:
    shape = replace(make_geometry(), dtype=torch.bfloat16)
    history = History.of(shape, (63, 30))
    assert_same(column(history, (31, 40)), column(history, ()))
    assert_close(column(history, (7,)), column(history, ()), "exact")


def test_nothing_larger_is_held_and_nothing_given_is_changed() -> None:
    history, env = History.of(make_geometry(), (63,)), make_env()
    before, _ = observed(OBSERVER, env, history, (31,))
    copies = {name: tensor.clone() for name, tensor in before.items()}
    for tensor in before.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    OBSERVER.update(env, before, history.piece(60, 63), history.entries())
    for name, tensor in copies.items():
        assert_same(before[name], tensor)
