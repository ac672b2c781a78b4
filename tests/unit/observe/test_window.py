"""The newest real queries, in any pieces, with padding and short rows."""

from __future__ import annotations

import pytest
import torch

from keyvalise.observe.window import WindowObserver
from tests.support.compare import assert_same
from tests.unit.builders import History, make_env, make_geometry, observed


@pytest.mark.parametrize("n", [1, 7, 63, 70])
@pytest.mark.parametrize("cuts", [(), (31,), (50, 57, 58), tuple(range(1, 63))])
@pytest.mark.parametrize("counts", [(63, 63), (63, 20, 3)])
def test_the_last_real_queries_newest_last(n: int, cuts: tuple[int, ...], counts: tuple[int, ...]) -> None:
    history = History.of(make_geometry(), counts)
    stats, _ = observed(WindowObserver(n), make_env(), history, cuts)
    q, ordinals = stats[f"window{n}_q"], stats[f"window{n}_ordinals"]
    assert q.shape == (len(counts), 6, n, 10)
    for row, count in enumerate(counts):
        k = min(n, count)
        assert ordinals[row].tolist() == [-1] * (n - k) + list(range(count - k, count))
        assert_same(q[row, :, n - k :], history.q[row, :, 63 - k :])
        assert_same(q[row, :, : n - k], torch.zeros(6, n - k, 10))


def test_bytes_are_those_of_the_statistics() -> None:
    observer, env = WindowObserver(7), make_env()
    stats = observer.init(env, 1, "cpu")
    assert observer.stat_bytes(env.geometry) == sum(t.nbytes for t in stats.values())
    assert observer.stats == stats.keys()


def test_what_fell_out_is_not_held() -> None:
    history = History.of(make_geometry(), (63,))
    stats, _ = observed(WindowObserver(7), make_env(), history, (31,))
    for tensor in stats.values():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
