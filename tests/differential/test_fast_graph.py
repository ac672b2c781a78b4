"""The compiled loops of the graph against their definitions: the same edges, ids and counts, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from keyvalise.ops import graph
from keyvalise.ops.fast import graph as fast
from keyvalise.ops.fast import legible
from tests.unit.builders import random

pytestmark = pytest.mark.skipif(not legible.is_installed(), reason="no compiler")

SIZES = pytest.mark.parametrize(("n", "m", "dim"), [(1, 0, 5), (7, 3, 16), (63, 130, 7), (130, 63, 33)])


def slow(patch: pytest.MonkeyPatch) -> None:
    """From now on the definitions run."""
    patch.setattr(legible, "is_installed", lambda: False)


def inputs(n: int, m: int, dim: int) -> tuple[Tensor, Tensor]:
    """Keys that share a part and come in all sizes, and queries from elsewhere."""
    keys = random(n, dim, seed=1) * torch.rand(n, 1, generator=torch.Generator().manual_seed(2)) + 3
    return keys, random(m, dim, seed=3) + random(dim, seed=4)


@SIZES
@pytest.mark.parametrize("is_whole", [False, True])
def test_the_same_edges(n: int, m: int, dim: int, is_whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, queries = inputs(n, m, dim)
    if is_whole:  # whole numbers make many ties
        keys, queries = keys.round(), queries.round()
    built = graph.build(keys, queries, degree=5, truth=20, beam=30)
    grown = graph.extend(graph.build(keys[: n // 2], queries, degree=5, beam=30), keys, n // 2, beam=30)
    slow(monkeypatch)
    want = graph.build(keys, queries, degree=5, truth=20, beam=30)
    assert torch.equal(built.edges, want.edges) and built.entry == want.entry
    want = graph.extend(graph.build(keys[: n // 2], queries, degree=5, beam=30), keys, n // 2, beam=30)
    assert torch.equal(grown.edges, want.edges) and grown.entry == want.entry


@SIZES
@pytest.mark.parametrize(("k", "beam"), [(1, 1), (7, 7), (7, 40), (20, 1000)])
def test_the_same_keys_are_found(
    n: int, m: int, dim: int, k: int, beam: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, queries = inputs(n, max(m, 1), dim)
    built = graph.build(keys, queries[:0], degree=4, beam=20)
    ids, compared = graph.search(built, keys, queries, k, beam)
    slow(monkeypatch)
    want, counts = graph.search(built, keys, queries, k, beam)
    assert torch.equal(ids, want) and torch.equal(compared, counts)


def test_zeros_of_both_signs_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, -1.0], [-1.0, 0.0]])
    edges = torch.tensor([[1, 2, 3]] * 4, dtype=torch.int32)
    queries = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    ids, _ = graph.search(graph.Graph(edges, 0), keys, queries, 4, 4)
    slow(monkeypatch)
    assert ids.tolist() == [[2, 1, 0, 3], [3, 2, 1, 0]]
    assert torch.equal(graph.search(graph.Graph(edges, 0), keys, queries, 4, 4)[0], ids)


def test_edges_that_lead_nowhere_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, queries = random(5, 7, seed=1), random(3, 7, seed=2)
    odd = graph.Graph(torch.tensor([[1, 99], [-7, 4], [0, 1], [5, 0], [3, 2]], dtype=torch.int32), 0)
    ids, compared = graph.search(odd, keys, queries, 5, 5)
    slow(monkeypatch)
    assert torch.equal(graph.search(odd, keys, queries, 5, 5)[0], ids) and compared.tolist() == [5] * 3
    with pytest.raises(ValueError, match="a graph of 5 keys"):
        graph.search(graph.Graph(odd.edges, 5), keys, queries, 5, 5)


def test_a_candidate_given_twice_counts_once() -> None:
    x = np.pad(random(9, 3, seed=1).numpy(), ((0, 0), (0, 13)))
    nodes, twice = np.array([4], np.int32), np.array([1, 2, 2, 7, 7], np.int32)
    rows = fast.prune(x, nodes, np.array([0, 5]), twice, degree=3)
    assert np.array_equal(rows, graph._prune(x, nodes, np.array([0, 3]), np.unique(twice), degree=3))


def test_threads_change_nothing() -> None:
    keys, queries = inputs(700, 300, 16)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            built = graph.build(keys, queries.round(), degree=6, beam=40)
            found.append((built.edges, *graph.search(built, keys, queries, 9, 20)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, three) for one, three in zip(*found, strict=True))
