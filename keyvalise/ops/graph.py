"""A graph over keys whose edges follow what queries retrieve together, and its best-first search.

One graph belongs to one list of keys; it knows neither models nor caches. Similarity is the inner product, of
two keys once their mean is taken from both, which changes no query's order; among equals the later comes
first. Sums over dims run in LANES partial sums, here and in the compiled loops, so that both round alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from keyvalise.ops.fast import graph as fast
from keyvalise.ops.fast import legible

Singles = npt.NDArray[np.float32]
Ids = npt.NDArray[np.integer]
Counts = npt.NDArray[np.int64]

LANES = 16

AT_ONCE = 2**19
"""Inner products held at once while queries look for their best keys among all."""

GROWTH = 8
"""Keys are linked in batches of an eighth of those before them; a batch does not see itself."""

NEAR = 32
"""Reachable keys among which one that is not looks for room first."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """edges int32 [N, M], −1 = none;  entry: where searches begin, −1 without keys.

    The first half of a row was learnt from queries, the second leads to near keys.
    """

    edges: Tensor
    entry: int


def build(keys: Tensor, queries: Tensor, *, degree: int = 35, truth: int = 100, beam: int = 500) -> Graph:
    """The graph of keys [n, D] for queries like the training queries [m, D].

    A training query's best key is linked with its other best keys, and they with it. Then every key is linked
    with what a search for it follows, and that with it. Whatever still cannot be reached is attached to a
    near key. A key's links are pruned to `degree` in both halves of its row.

    Shapes   edges [n, 2·degree];  the entry is the key nearest to the mean
    Cost     m·n·D for the true keys, n searches of width `beam`; 8·degree bytes per key
    Raises   ValueError for shapes that do not fit or numbers that are not finite
    Differs  from the official code: keys are centred, or a common part of them would decide what hides what;
             queries of one best key are pruned together, and reverse edges once, when all are known; keys are
             linked in batches to a graph that grows; a key as near as the node hides too, as equal keys do
    Paper    RoarGraph, arXiv 2408.08933; for attention RetrievalAttention, arXiv 2409.10516
    """
    if min(degree, truth, beam) < 1:
        raise ValueError(f"degree, truth and beam must be at least 1, got {degree}, {truth} and {beam}")
    x, asked = _centred(keys), _rows(queries, keys.shape[-1])
    edges = np.full((len(x), 2 * degree), -1, np.int32)
    if not len(x):
        return Graph(torch.from_numpy(edges), -1)
    _project(x, _highest(x, asked, truth), edges[:, :degree])
    entry = int(_order(-_dot(x, x), np.arange(len(x)))[0])
    _link_all(x, edges, entry, _batches(len(x)), beam)
    _attach(x, edges, entry)
    return Graph(torch.from_numpy(edges), entry)


def extend(graph: Graph, keys: Tensor, n_old: int, *, beam: int = 500) -> Graph:
    """The graph of all keys [N, D], the first n_old of which it knows; the others are inserted one by one.

    Raises   ValueError where the graph is not of n_old keys or a key is not finite
    """
    if not n_old == len(graph.edges) <= len(keys):
        raise ValueError(f"a graph of {len(graph.edges)} keys cannot know {n_old} of {len(keys)}")
    if not n_old:
        return build(keys, keys[:0], degree=graph.edges.shape[1] // 2, beam=beam)
    x, edges = _centred(keys), np.full((len(keys), graph.edges.shape[1]), -1, np.int32)
    edges[:n_old] = graph.edges.numpy()
    _link_all(x, edges, graph.entry, np.arange(n_old, len(x), dtype=np.int32)[:, None], beam)
    _attach(x, edges, graph.entry)
    return Graph(torch.from_numpy(edges), graph.entry)


def search(graph: Graph, keys: Tensor, queries: Tensor, k: int, beam: int) -> tuple[Tensor, Tensor]:
    """Keys of high inner product with queries [r, D], best-first from the entry.

    A queue holds the `beam` best keys met so far; the best whose edges were not followed yet is next, until
    there is none. A beam as wide as the graph finds the best keys.

    Shapes   ids int32 [r, k], best first, −1 where fewer were met;  compared int64 [r]: inner products taken
    Needs    the keys of the graph, which are not looked at again for numbers that are not finite
    Raises   ValueError where the beam is narrower than k, shapes do not fit or a query is not finite
    """
    if not 1 <= k <= beam or len(keys) != len(graph.edges) or graph.entry >= len(keys):
        raise ValueError(f"k={k} with beam={beam}, a graph of {len(graph.edges)} keys for {len(keys)}")
    x, asked, edges = _rows(keys, is_known=True), _rows(queries, keys.shape[-1]), graph.edges.numpy()
    run = fast.search if legible.is_installed() and len(x) else _search
    ids, compared = run(x, edges, graph.entry, asked, k=k, beam=min(beam, len(x)))
    return torch.from_numpy(ids), torch.from_numpy(compared)


def reachable(graph: Graph) -> Tensor:
    """bool [N]: keys to which edges lead from the entry."""
    above = np.full(len(graph.edges), -1, np.int32)
    if len(above):
        _follow(graph.edges.numpy(), above, graph.entry)
    return torch.from_numpy(above >= 0)


def _rows(x: Tensor, dim: int | None = None, *, is_known: bool = False) -> Singles:
    """The rows [n, D] as an array, D filled up with zeros to whole lanes."""
    if x.ndim != 2 or (dim is not None and x.shape[1] != dim):
        raise ValueError(
            f"expected rows{'' if dim is None else f' of {dim} dims'}, got shape {list(x.shape)}"
        )
    rows, short = x.detach().to("cpu", torch.float32).numpy(), -x.shape[1] % LANES
    if not is_known and not np.isfinite(rows).all():
        raise ValueError("keys and queries must be finite numbers, got NaN or infinity")
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, short))) if short else rows)


def _centred(keys: Tensor) -> Singles:
    x = _rows(keys)
    return x - x.mean(0, dtype=np.float64).astype(np.float32) if len(x) else x


def _highest(x: Singles, asked: Singles, n: int) -> Ids:
    """[m, min(n, N)]: of rows x [N, D] those of highest inner product with every query, best first."""
    rows, n = torch.from_numpy(x), min(n, len(x))
    found = [torch.empty(0, n, dtype=torch.long)]
    for block in torch.from_numpy(asked).split(max(1, AT_ONCE // len(x))):
        # One whole number per row settles ties: the product's bits, which ascend with it, then the id.
        bits = (block @ rows.T + 0.0).view(torch.int32).long()
        marks = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits) * 2**32 + torch.arange(len(x))
        found.append(marks.topk(n, -1).values & 0xFFFFFFFF)
    return torch.cat(found).numpy()


def _project(x: Singles, true: Ids, half: Ids) -> None:
    """Fill half [n, M] with edges from every query's best key to its others, then with their reverses."""
    _offer(x, half, np.repeat(true[:, 0], true.shape[1] - 1), true[:, 1:].ravel())
    owners, places = np.nonzero(half >= 0)
    _offer(x, half, half[owners, places], owners)


def _link_all(x: Singles, edges: Ids, entry: int, batches: Iterable[Ids], beam: int) -> None:
    """Fill the second half of the rows of all keys in the batches, and of those they lead to."""
    degree = edges.shape[1] // 2
    half, run = edges[:, degree:], fast.link if legible.is_installed() else _link
    for nodes in batches:
        half[nodes] = run(x, edges, entry, nodes, degree=degree, beam=min(beam, len(x)))
        there, others = half[nodes].ravel(), np.repeat(nodes, degree)
        is_new = (there >= 0) & (edges[there, :degree] != others[:, None]).all(1)
        _offer(x, half, there[is_new], others[is_new])


def _batches(n: int) -> Iterator[Ids]:
    begin = 0
    while begin < n:
        end = min(n, begin + 1 + begin // GROWTH)
        yield np.arange(begin, end, dtype=np.int32)
        begin = end


def _offer(x: Singles, half: Ids, owners: Ids, others: Ids) -> None:
    """Prune what the owners have in half [n, M] together with what is offered to them, in pairs."""
    nodes = np.unique(owners).astype(np.int32)
    has, places = np.nonzero(half[nodes] >= 0)
    first = np.concatenate([owners, nodes[has]]).astype(np.int64)
    pairs = np.unique(first * len(x) + np.concatenate([others, half[nodes[has], places]]))
    starts = np.append(np.searchsorted(pairs, nodes.astype(np.int64) * len(x)), len(pairs))
    run = fast.prune if legible.is_installed() else _prune
    half[nodes] = run(x, nodes, starts, (pairs % len(x)).astype(np.int32), degree=half.shape[1])


def _attach(x: Singles, edges: Ids, entry: int) -> None:
    """Give every key that cannot be reached an edge from the nearest that can and has room.

    Room is an empty place in the second half of a row, or one that the paths of `above` do not need.
    """
    degree, above = edges.shape[1] // 2, np.full(len(x), -1, np.int32)
    _follow(edges, above, entry)
    lost, reached = np.flatnonzero(above < 0), np.flatnonzero(above >= 0)
    if not len(lost):
        return
    # ‖a − b‖² = ‖a‖² + ‖b‖² − 2⟨a, b⟩, so with one more column the highest product is the nearest.
    wide, half = np.pad(x, ((0, 0), (0, 1)), constant_values=1), -_dot(x, x)[reached, None] / 2
    near = reached[_highest(np.hstack([x[reached], half]), wide[lost], NEAR)]
    for node, others in zip(lost, near, strict=True):
        if above[node] < 0:
            for other in itertools.chain(others, np.flatnonzero(above >= 0)):
                row = edges[other, degree:]
                room = np.flatnonzero((row < 0) | (above[row] != other))
                if len(room):
                    break
            row[room[0] if row[room[0]] < 0 else room[-1]], above[node] = node, other
            _follow(edges, above, int(node))


def _follow(edges: Ids, above: Ids, start: int) -> None:
    """Write into above [n] from where each key is reached, going out from `start`; −1 = not yet."""
    if above[start] < 0:
        above[start] = start
    nodes = np.array([start])
    while len(nodes):
        there, here = edges[nodes].ravel(), np.repeat(nodes, edges.shape[1])
        is_new = (there >= 0) & (above[there] < 0)
        nodes, which = np.unique(there[is_new], return_index=True)
        above[nodes] = here[is_new][which]


def _dot(x: Singles, y: Singles) -> Singles:
    """Σ x·y over the last dim: lane by lane in order, then the lanes by halves."""
    terms = x * y
    sums = np.zeros((*terms.shape[:-1], LANES), np.float32)
    for i in range(0, terms.shape[-1], LANES):
        sums += terms[..., i : i + LANES]
    while sums.shape[-1] > 1:
        width = sums.shape[-1] // 2
        sums = sums[..., :width] + sums[..., width:]
    return sums[..., 0]


def _order(values: Singles, ids: Ids) -> npt.NDArray[np.intp]:
    """From the highest on, the later id first among equals."""
    return np.lexsort((-ids, -values))


def _walk(x: Singles, edges: Ids, entry: int, query: Singles, beam: int) -> tuple[Ids, list[int], int]:
    """(the best keys met, best first; the keys whose edges were followed; how many were compared)."""
    ids, seen, is_done = np.array([entry]), np.zeros(len(x), bool), np.zeros(len(x), bool)
    values, seen[entry] = _dot(x[ids], query), True
    followed: list[int] = []
    while len(waiting := ids[~is_done[ids]]):
        followed.append(int(waiting[0]))
        is_done[waiting[0]] = True
        fresh = np.unique(edges[waiting[0]])
        fresh = fresh[(fresh >= 0) & (fresh < len(x))]
        fresh = fresh[~seen[fresh]]
        seen[fresh] = True
        ids, values = np.concatenate([ids, fresh]), np.concatenate([values, _dot(x[fresh], query)])
        best = _order(values, ids)[:beam]
        ids, values = ids[best], values[best]
    return ids, followed, int(seen.sum())


def _search(x: Singles, edges: Ids, entry: int, asked: Singles, *, k: int, beam: int) -> tuple[Ids, Counts]:
    """(ids [r, k], compared [r]) of queries [r, D]."""
    ids, compared = np.full((len(asked), k), -1, np.int32), np.zeros(len(asked), np.int64)
    for i, query in enumerate(asked if entry >= 0 else ()):
        best, _, compared[i] = _walk(x, edges, entry, query, beam)
        ids[i, : len(best)] = best[:k]
    return ids, compared


def _link(x: Singles, edges: Ids, entry: int, nodes: Ids, *, degree: int, beam: int) -> Ids:
    """Rows [b, degree] of nodes [b]: what a search for each follows and the second half of its row holds,
    without itself and the first half, pruned.
    """
    found = []
    for node in nodes:
        _, followed, _ = _walk(x, edges, entry, x[node], beam)
        candidates = np.union1d(followed, edges[node, degree:])
        found.append(np.setdiff1d(candidates, [-1, node, *edges[node, :degree]]))
    starts = np.cumsum([0, *map(len, found)])
    return _prune(x, nodes, starts, np.concatenate(found), degree=degree)


def _prune(x: Singles, nodes: Ids, starts: Counts, candidates: Ids, *, degree: int) -> Ids:
    """Rows [b, degree] of nodes [b] from candidates[starts[i] : starts[i + 1]], −1 where there are fewer.

    From the nearest on, a candidate stays unless one that stays is as near to it as the node is; places that
    are left go to the nearest of the others.
    """
    rows = np.full((len(nodes), degree), -1, np.int32)
    for i, node in enumerate(nodes):
        ids = candidates[starts[i] : starts[i + 1]]
        values = _dot(x[ids], x[node])
        kept: list[int] = []
        hidden: list[int] = []
        for c in map(int, _order(values, ids)):
            is_hidden = bool((_dot(x[ids[kept]], x[ids[c]]) >= values[c]).any())
            (hidden if is_hidden else kept).append(c)
        row = ids[(kept[:degree] + hidden)[:degree]]
        rows[i, : len(row)] = row
    return rows
