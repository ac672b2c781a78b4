"""The graph: its pruning by hand, every key reachable, exact with a wide beam, and worth its queries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from keyvalise.ops import graph
from keyvalise.ops.fast import graph as fast
from keyvalise.ops.graph import Graph
from tests.unit.builders import NAN, random

PRUNES = pytest.mark.parametrize("prune", [graph._prune, fast.prune], ids=["plain", "compiled"])


def shifted(seed: int, n: int = 2000, dim: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Keys around 0; training queries and others that are like them, all on one side."""
    keys, side = random(n, dim, seed=3 * seed), random(dim, seed=3 * seed + 1)
    queries = random(n + 200, dim, seed=3 * seed + 2) + side
    return keys, queries[:n], queries[n:]


def clustered(seed: int, n: int = 2000, dim: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """Keys around 40 centres, queries around 60 others."""
    of, noise = torch.Generator().manual_seed(seed), 0.6 * random(2 * n + 200, dim, seed=5 * seed)
    keys = random(40, dim, seed=5 * seed + 1)[torch.randint(40, (n,), generator=of)] + noise[:n]
    centres = random(60, dim, seed=5 * seed + 2) + 0.7 * random(dim, seed=5 * seed + 3)
    queries = centres[torch.randint(60, (n + 200,), generator=of)] + noise[n:]
    return keys, queries[:n], queries[n:]


def neighbours(keys: Tensor, degree: int) -> Graph:
    """Every key's nearest by distance, and back as long as there is room."""
    far = torch.cdist(keys, keys).fill_diagonal_(float("inf"))
    edges = np.full((len(keys), 2 * degree), -1, np.int32)
    edges[:, :degree] = far.topk(degree, largest=False).indices.numpy()
    for i in range(len(keys)):
        for j in edges[i, :degree]:
            room = np.flatnonzero(edges[j] < 0)
            if len(room) and i not in edges[j]:
                edges[j, room[0]] = i
    return Graph(torch.from_numpy(edges), int((keys - keys.mean(0)).norm(dim=1).argmin()))


def measured(built: Graph, keys: Tensor, queries: Tensor, k: int, beam: int) -> tuple[float, float]:
    """(recall of the k best keys, share of the keys compared)."""
    ids, compared = graph.search(built, keys, queries, k, beam)
    true = (queries @ keys.T).topk(k).indices
    hits = (ids[:, :, None] == true[:, None]).any(-1)
    return float(hits.float().mean()), float(compared.float().mean()) / len(keys)


def gain(one: Graph, other: Graph, keys: Tensor, queries: Tensor, beam: int) -> float:
    """How much more of the 20 best keys one finds than the other with as many comparisons."""
    recall, share = measured(one, keys, queries, 20, beam)
    recalls, shares = zip(*(measured(other, keys, queries, 20, wide) for wide in (20, 40, 80)), strict=True)
    return recall - float(np.interp(share, shares, recalls))


def pruned(prune: object, rows: list[list[float]], degree: int) -> list[int]:
    """What row 0 keeps of the others."""
    x = np.pad(np.array(rows, np.float32), ((0, 0), (0, graph.LANES - 2)))
    others = np.arange(1, len(rows), dtype=np.int32)
    starts = np.array([0, len(others)])
    return prune(x, np.zeros(1, np.int32), starts, others, degree=degree)[0].tolist()  # type: ignore[operator]


@PRUNES
def test_a_key_hides_what_is_nearer_to_it_than_to_the_node(prune: object) -> None:
    # Products with the node: 3, 2.5, 2. The first is by 6 nearer to the second, and by 0 to the third.
    rows = [[1, 1], [3, 0], [2, 0.5], [0, 2]]
    assert [pruned(prune, rows, degree) for degree in (1, 2, 3, 4)] == [[1], [1, 3], [1, 3, 2], [1, 3, 2, -1]]


@PRUNES
def test_signs_matter_where_products_are_negative(prune: object) -> None:
    # Products −1 and −2; the first's with the second is 2, which is more than −2, so it hides it.
    assert pruned(prune, [[1, 0], [-2, 0], [-1, 0], [-1.5, 2]], 3) == [2, 3, 1]
    assert pruned(prune, [[1, 0], [-1, -1], [-2, 1.5]], 1) == [1]


@PRUNES
def test_equal_keys_hide_each_other_and_the_later_stays(prune: object) -> None:
    assert pruned(prune, [[1, 1], [1, 1], [1, 1], [0, 1]], 3) == [2, 1, 3]
    assert pruned(prune, [[1, 1], [3, -1], [3, -1], [-1, 2]], 2) == [2, 3]


def test_a_query_links_its_best_key_with_its_others_and_back() -> None:
    keys, query = random(63, 8, seed=1), random(1, 8, seed=2)
    best, *others = (query @ keys.T).topk(7).indices[0].tolist()
    learnt = graph.build(keys, query, degree=9, truth=7, beam=20).edges[:, :9]
    assert set(learnt[best].tolist()) == {*others, -1}
    assert all(set(learnt[other].tolist()) == {best, -1} for other in others)
    assert int((learnt >= 0).sum()) == 2 * len(others)


def test_neither_half_names_a_key_twice_or_the_key_itself() -> None:
    keys, train, _ = shifted(1, n=700)
    edges = graph.build(keys, train, degree=7, truth=30, beam=40).edges
    full = edges.sort(dim=1).values
    assert not bool(((full[:, 1:] == full[:, :-1]) & (full[:, 1:] >= 0)).any())
    assert not bool((edges == torch.arange(len(keys))[:, None]).any()) and int(edges.max()) < len(keys)


def test_what_queries_teach_leaves_keys_alone_and_links_bring_them_in() -> None:
    # Of eight seeds, seven have an entry that no query cares for: the search then ends where it began.
    keys, train, test = shifted(1)
    built = graph.build(keys, train, degree=16, beam=64)
    taught = Graph(built.edges[:, :16].contiguous(), built.entry)
    assert int((taught.edges < 0).all(1).sum()) > len(keys) / 4
    assert measured(taught, keys, test, 20, 80)[0] < 0.05
    assert bool(graph.reachable(built).all()) and measured(built, keys, test, 20, 80)[0] > 0.98


@pytest.mark.parametrize("degree", [1, 2, 16])
def test_every_key_is_reached(degree: int) -> None:
    keys, train, _ = clustered(1, n=400)
    # Short keys are nobody's best by inner product.
    keys[::3] *= 0.01
    built = graph.build(keys, train, degree=degree, beam=32)
    assert bool(graph.reachable(built).all()) and built.edges.shape == (400, 2 * degree)


def test_reachable_follows_edges_from_the_entry_alone() -> None:
    edges = torch.tensor([[1, -1], [2, -1], [-1, -1], [0, 4], [3, -1]], dtype=torch.int32)
    assert graph.reachable(Graph(edges, 0)).tolist() == [True, True, True, False, False]
    assert graph.reachable(Graph(edges, 3)).tolist() == [True] * 5


@pytest.mark.parametrize(("n", "m", "dim"), [(63, 7, 5), (700, 130, 32)])
def test_a_beam_as_wide_as_the_graph_is_exact(n: int, m: int, dim: int) -> None:
    keys, queries = random(n, dim, seed=n) + 2, random(m, dim, seed=m)
    ids, compared = graph.search(graph.build(keys, queries, degree=6, beam=20), keys, queries, 20, n)
    assert torch.equal(ids.long(), (queries.double() @ keys.double().T).topk(20).indices)
    assert compared.tolist() == [n] * m


def test_among_equals_the_later_is_better() -> None:
    keys, queries = random(130, 3, seed=1).round(), random(7, 3, seed=2).round()
    ids, _ = graph.search(graph.build(keys, queries, degree=6, beam=20), keys, queries, 40, 130)
    want = [sorted(range(130), key=lambda i: (-row[i], -i))[:40] for row in (queries @ keys.T).tolist()]
    assert ids.tolist() == want


def test_recall_and_comparisons_rise_with_the_beam() -> None:
    keys, train, test = shifted(2)
    built = graph.build(keys, train, degree=16, beam=64)
    recalls, shares = zip(*(measured(built, keys, test, 20, beam) for beam in (20, 40, 80, 160)), strict=True)
    assert list(recalls) == sorted(set(recalls)) and list(shares) == sorted(set(shares))


def test_queries_from_elsewhere_find_more_than_by_nearest_neighbours() -> None:
    # Eight seeds gave 0.175 to 0.254 with a beam of 20, 0.103 to 0.143 with one of 40.
    keys, train, test = shifted(3)
    built, plain = graph.build(keys, train, degree=16, beam=64), neighbours(keys, 16)
    assert gain(built, plain, keys, test, 20) > 0.12
    assert gain(built, plain, keys, test, 40) > 0.07


def test_what_queries_teach_is_worth_more_than_as_many_links_of_keys() -> None:
    # Eight seeds gave 0.045 to 0.071.
    keys, train, test = clustered(3)
    built = graph.build(keys, train, degree=16, beam=64)
    other = graph.build(keys, train[:0], degree=32, beam=64)
    assert gain(built, other, keys, test, 20) > 0.02


def test_a_part_common_to_all_keys_changes_little() -> None:
    keys, train, test = clustered(4, n=700)
    far = keys + 30 * random(32, seed=9)
    here, there = (measured(graph.build(x, train, degree=8, beam=40), x, test, 10, 20) for x in (keys, far))
    assert here == pytest.approx(there, abs=0.01)


@pytest.mark.parametrize("n_old", [0, 1, 63, 690])
def test_extended_graphs_reach_everything_and_leave_the_old_one_alone(n_old: int) -> None:
    keys, train, test = clustered(2, n=700)
    old = graph.build(keys[:n_old], train, degree=8, beam=40)
    before = old.edges.clone()
    grown = graph.extend(old, keys, n_old, beam=40)
    assert torch.equal(old.edges, before) and grown.edges.shape == (700, 16)
    assert bool(graph.reachable(grown).all())
    whole = graph.build(keys, train[:0], degree=8, beam=40)
    assert measured(grown, keys, test, 10, 80)[0] > measured(whole, keys, test, 10, 80)[0] - 0.05


def test_extending_by_nothing_changes_nothing() -> None:
    keys, train, _ = clustered(2, n=130)
    old = graph.build(keys, train, degree=8, beam=40)
    assert torch.equal(graph.extend(old, keys, 130, beam=40).edges, old.edges)


@pytest.mark.parametrize("n", [0, 1, 2, 7])
@pytest.mark.parametrize("m", [0, 3])
def test_fewer_keys_than_places(n: int, m: int) -> None:
    keys, queries = random(n, 5, seed=1), random(3, 5, seed=2)
    built = graph.build(keys, queries[:m])
    assert (
        built.edges.shape == (n, 70) and bool(graph.reachable(built).all()) and (built.entry < 0) == (n == 0)
    )
    ids, compared = graph.search(built, keys, queries, 4, 9)
    best = (queries @ keys.T).argsort(1, descending=True)[:, :4].int()
    assert torch.equal(ids[:, : min(n, 4)], best) and bool((ids[:, n:] == -1).all())
    assert compared.tolist() == [n] * 3
    assert bool(graph.reachable(graph.extend(built, torch.cat([keys, queries]), n)).all())


@pytest.mark.parametrize("n_others", [0, 63])
def test_copies_of_one_key_are_all_reached(n_others: int) -> None:
    keys = torch.cat([random(1, 7, seed=1).repeat(300, 1), random(n_others, 7, seed=2)])
    built = graph.build(keys, random(63, 7, seed=3), degree=5, beam=20)
    assert bool(graph.reachable(built).all())
    assert bool(graph.reachable(graph.extend(built, keys.repeat(2, 1)[: len(keys) + 63], len(keys))).all())


def test_inputs_are_left_as_they_are() -> None:
    keys, train, test = clustered(5, n=130)
    given = [x.clone() for x in (keys, train, test)]
    graph.search(graph.build(keys, train, degree=4, beam=20), keys, test, 5, 10)
    assert all(torch.equal(one, other) for one, other in zip(given, (keys, train, test), strict=True))


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    keys, queries = random(63, 5, seed=1), random(7, 5, seed=2)
    built, spoilt, asked = graph.build(keys, queries, degree=4, beam=9), keys.clone(), queries.clone()
    spoilt[62, 3] = asked[6, 0] = bad
    for refused in (
        lambda: graph.build(spoilt, queries),
        lambda: graph.build(keys, asked),
        lambda: graph.extend(graph.build(keys[:60], queries), spoilt, 60),
        lambda: graph.search(built, keys, asked, 3, 5),
    ):
        with pytest.raises(
            ValueError, match=r"^keys and queries must be finite numbers, got NaN or infinity$"
        ):
            refused()


def test_what_does_not_fit_is_refused() -> None:
    keys, queries = random(63, 5, seed=1), random(7, 5, seed=2)
    built = graph.build(keys, queries, degree=4, beam=9)
    with pytest.raises(ValueError, match=r"rows of 5 dims, got shape \[7, 4\]"):
        graph.build(keys, queries[:, :4])
    with pytest.raises(ValueError, match="must be at least 1, got 0, 100 and 500"):
        graph.build(keys, queries, degree=0)
    with pytest.raises(ValueError, match="k=9 with beam=8"):
        graph.search(built, keys, queries, 9, 8)
    with pytest.raises(ValueError, match="a graph of 63 keys for 60"):
        graph.search(built, keys[:60], queries, 3, 8)
    with pytest.raises(ValueError, match="a graph of 63 keys cannot know 60 of 63"):
        graph.extend(built, keys, 60)
