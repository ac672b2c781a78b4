"""The query-built graph against HNSW of usearch and faiss as they come, at equal numbers of comparisons.

    python bench/graph.py [--keys 7000] [--data shifted reference] [--indexes …] [--again]

One line of results/graph.jsonl per data, index and width of the search (ef): recall of the 100 best keys and
softmax mass found, comparisons as each library counts them itself, seconds of the build. Lines that are there
are not measured again, so that an interrupted run goes on where it stopped.

Queries are held out: other draws of the training queries' distribution, or the questions that follow the
document on whose queries the graph was built. A rival that is not installed is named and left out; install
them in a folder of their own:

    pip install --no-deps --target FOLDER usearch numkong tqdm faiss-cpu
    PYTHONPATH=FOLDER python bench/graph.py
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cases
import torch
from torch import Tensor

from keyvalise.bench.results import write_whole
from keyvalise.ops import graph

LINES = cases.RESULTS / "graph.jsonl"
K, WIDTHS = 100, (100, 141, 200, 283, 400, 566, 800)
DIM, QUERIES, SINKS = 64, 500, 4
"""Dims and held-out queries of generated data; first tokens that stay outside the index, as they would."""

LAYER, SEED = 1, 2_000_000
MARGIN = 64
"""Tokens of room for the questions' beginnings when a document is cut to size."""


class Data(NamedTuple):
    """One list of keys [n, D], training queries [m, D], held-out queries [r, D]."""

    name: str
    keys: Tensor
    train: Tensor
    test: Tensor


class Answer(NamedTuple):
    """ids int64 [r, K], −1 where there are fewer; comparisons of all queries together."""

    ids: Tensor
    comparisons: int


Search = Callable[[Tensor, int], Answer]
"""Of queries and a width."""

Build = Callable[[Data], Search]


def shifted(n: int) -> Iterator[Data]:
    """Normal keys, and queries that all lie to one side."""
    made = torch.Generator().manual_seed(1)
    keys, side = torch.randn(n, DIM, generator=made), torch.randn(DIM, generator=made)
    queries = torch.randn(n + QUERIES, DIM, generator=made) + side
    yield Data(f"shifted {n}", keys, queries[:n], queries[n:])


def clustered(n: int) -> Iterator[Data]:
    """Keys around one set of centres, queries around another."""
    made = torch.Generator().manual_seed(2)
    noise = 0.6 * torch.randn(2 * n + QUERIES, DIM, generator=made)
    keys = torch.randn(n // 50, DIM, generator=made)[torch.randint(n // 50, (n,), generator=made)]
    centres = torch.randn(n // 30, DIM, generator=made) + 0.7 * torch.randn(DIM, generator=made)
    queries = centres[torch.randint(n // 30, (n + QUERIES,), generator=made)] + noise[n:]
    yield Data(f"clustered {n}", keys + noise[:n], queries[:n], queries[n:])


def reference(n: int) -> Iterator[Data]:
    """What one layer of the reference model holds of a document and asks, one list per kv head."""
    import keyvalise
    from keyvalise.train.readings import Reader, Reading

    model, tokenizer = keyvalise.reference()
    task = keyvalise.tasks.generate("multikey", tokens=n + SINKS + MARGIN, seed=SEED, kind="dense")
    begin, most = n + SINKS, model.config.max_position_embeddings
    document = tokenizer(task.document).input_ids
    asked = tokenizer(" " + " ".join(task.questions), add_special_tokens=False).input_ids
    found: dict[int, Reading] = {}
    text = torch.tensor([[*document[:begin], *asked][:most]])
    if len(document) < begin or text.shape[1] == begin:
        raise cases.Unavailable(f"no document of {n} tokens with questions within {most} positions")
    Reader(model).read(text, found.__setitem__)
    queries, keys = found[LAYER].queries, found[LAYER].keys
    for head, (own, asking) in enumerate(zip(keys, queries.chunk(len(keys)), strict=True)):
        train, test = (asking[:, part].flatten(0, 1) for part in (slice(SINKS, begin), slice(begin, None)))
        yield Data(f"reference {n} head {head}", own[SINKS:begin].contiguous(), train, test)


KINDS = {"shifted": shifted, "clustered": clustered, "reference": reference}


def ours(degree: int, *, is_taught: bool = True) -> Build:
    """Our graph, with or without its training queries."""

    def build(data: Data) -> Search:
        train = data.train if is_taught else data.train[:0]
        built = graph.build(data.keys, train, degree=degree)

        def search(queries: Tensor, width: int) -> Answer:
            ids, compared = graph.search(built, data.keys, queries, K, width)
            return Answer(ids.long(), int(compared.sum()))

        return search

    return build


def usearch(data: Data) -> Search:
    """HNSW of usearch with its own defaults."""
    module = _installed("usearch.index", "usearch numkong tqdm")
    index = module.Index(ndim=data.keys.shape[1], metric="ip", dtype="f32")
    index.add(torch.arange(len(data.keys)).numpy(), data.keys.numpy(), threads=1)

    def search(queries: Tensor, width: int) -> Answer:
        index.expansion_search = width
        matches = index.search(queries.numpy(), K, threads=1)
        ids = torch.from_numpy(matches.keys.astype("int64"))
        is_there = torch.arange(K) < torch.from_numpy(matches.counts.astype("int64"))[:, None]
        return Answer(torch.where(is_there, ids, -1), int(matches.computed_distances))

    return search


def faiss(data: Data) -> Search:
    """HNSW of faiss with its own defaults, 32 links."""
    module = _installed("faiss", "faiss-cpu")
    module.omp_set_num_threads(1)
    index = module.IndexHNSWFlat(data.keys.shape[1], 32, module.METRIC_INNER_PRODUCT)
    index.add(data.keys.numpy())

    def search(queries: Tensor, width: int) -> Answer:
        index.hnsw.efSearch = width
        module.cvar.hnsw_stats.reset()
        _, ids = index.search(queries.numpy(), K)
        return Answer(torch.from_numpy(ids), int(module.cvar.hnsw_stats.ndis))

    return search


INDEXES: dict[str, Build] = {
    "graph(16)": ours(16),
    "graph(35)": ours(35),
    "graph(35), keys alone": ours(35, is_taught=False),
    "usearch": usearch,
    "faiss": faiss,
}


def measured(data: Data, search: Search, widths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Recall, mass and comparisons at every width."""
    scores = data.test @ data.keys.T
    mass = torch.softmax(scores * data.keys.shape[1] ** -0.5, -1)
    best = scores.topk(K).indices
    of_best = float(mass.gather(1, best).sum(1).mean())
    search(data.test[:2], widths[0])
    for width in widths:
        begin = time.perf_counter()
        ids, comparisons = search(data.test, width)
        seconds = time.perf_counter() - begin
        is_found = torch.zeros(len(ids), len(data.keys) + 1).scatter_(1, ids % (len(data.keys) + 1), 1)[
            :, :-1
        ]
        yield {
            "ef": width,
            "comparisons": comparisons / len(ids),
            "share": comparisons / len(ids) / len(data.keys),
            "recall": float(is_found.gather(1, best).mean()),
            "mass": float((mass * is_found).sum(1).mean()),
            "mass_of_best": of_best,
            "query_us": 1e6 * seconds / len(ids),
        }


def lines(data: Data, name: str) -> Iterator[dict[str, Any]]:
    """One line per width of one index."""
    begin = time.perf_counter()
    search = INDEXES[name](data)
    seconds = time.perf_counter() - begin
    sizes = {"n": len(data.keys), "dim": data.keys.shape[1], "train": len(data.train), "test": len(data.test)}
    head = {"data": data.name, "index": name, **sizes, "k": K, "build_seconds": round(seconds, 3)}
    machine = cases.machine()
    widths = [width for width in WIDTHS if width <= len(data.keys)]
    for found in measured(data, search, widths):
        yield head | {key: round(value, 5) for key, value in found.items()} | {"machine": machine}


def _installed(module: str, packages: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as flaw:
        raise cases.Unavailable(
            f"{module.partition('.')[0]} cannot be imported ({flaw}); "
            f"`pip install --no-deps --target FOLDER {packages}`, then PYTHONPATH=FOLDER"
        ) from None


def _known(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The lines there are, a torn one left out."""
    found = {}
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        found[record["data"], record["index"], record["ef"]] = record
    return found


def _add(path: Path, data: Data, name: str) -> None:
    """Measure one index and write its lines with those there are, or say why not."""
    try:
        made = list(lines(data, name))
    except cases.Unavailable as reason:
        print(f"{data.name}, {name}: left out: {reason}", flush=True)
        return
    records = _known(path) | {(data.name, name, line["ef"]): line for line in made}
    write_whole(path, "".join(json.dumps(record) + "\n" for record in records.values()))
    print(f"{data.name}, {name}: {made[0]['build_seconds']} s to build", flush=True)


def main() -> int:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=7000, help="keys of every list, 400 or more")
    parser.add_argument("--data", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--indexes", nargs="+", choices=list(INDEXES), default=list(INDEXES))
    parser.add_argument("--out", type=Path, default=LINES)
    parser.add_argument("--again", action="store_true", help="measure also what has been measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Kernels are compiled before anything is timed.
    graph.build(torch.eye(K), torch.eye(K), degree=3, beam=9)
    known = {} if options.again else _known(options.out)
    for kind in options.data:
        for data in KINDS[kind](options.keys):
            for name in options.indexes:
                if (data.name, name, WIDTHS[0]) not in known:
                    _add(options.out, data, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
