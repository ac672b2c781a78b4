"""The compiled loops of reading little beside their namesakes, alone: one thread, one process, in turns.

python bench/reading_kernels.py [CASE …] [--again] [--list]

picked-*     attention over entries here and there      scan-*    logits of every unit
coded-*      attention over codes where they lie        mass-*    what the newest query pays to every entry
choosing     votes of a group, and the best units that hold so many entries
window-*     what the newest 32 queries pay             sums-*    what all queries of a piece pay
nearest-*    every vector's nearest centre of 256       books-*   centres themselves, three rounds of k-means
packing-*    keys written as integers of 4 bits
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import cases
import decode
import torch
from torch import Tensor

from keyvalise.ops import affine, attend, kmeans, units
from keyvalise.ops import mass as masses
from keyvalise.ops.fast import choose
from keyvalise.recipe.object import Recipe
from keyvalise.store import flat
from keyvalise.store.coded import Coded
from keyvalise.types import argument
from keyvalise.types.data import Entries, Env, Piece, Queries, Stretch
from keyvalise.types.geometry import Geometry, Rope

HEADS, GROUP, DIM, ROUNDS = 8, 4, 128, 15
CODES = ("pq(32)", "pq(32, side=post)", "rq(32)", "rq(32, side=post)", "vector(4)")


def beside(label: str, call: Callable[[], Any], **settings: Any) -> cases.Figure:
    """A call with kernels and without."""

    def forced(is_fast: bool) -> Any:
        with mock.patch.object(choose, "is_faster", return_value=is_fast):
            return call()

    torch.set_num_threads(1)
    times = cases.alternate({"compiled": partial(forced, True), "plain": partial(forced, False)}, ROUNDS)
    sides = {name: cases.summary(took) for name, took in times.items()}
    for name, took in times.items():
        sides[name]["ratio"] = cases.paired(took, times["compiled"])
    ratio = 1 / sides["plain"]["ratio"]
    told = {"heads": HEADS, "group": GROUP, "head_dim": DIM, "threads": 1, **settings}
    return cases.Figure(told, sides, [cases.Target(f"{label}: time of the namesake", ratio, 1.0)])


def picked(name: str, n_stored: int = 131072, n_picked: int = 2400) -> cases.Figure:
    """One query per head over a few of many entries."""
    dtype = decode.DTYPES[name]
    keys, values = (decode.normal(n_stored * HEADS, DIM, dtype=dtype, seed=seed) for seed in range(2))
    made = torch.Generator().manual_seed(0)
    chosen = [torch.randperm(n_stored, generator=made)[:n_picked].sort().values for _ in range(HEADS)]
    index = torch.cat([own + head * n_stored for head, own in enumerate(chosen)])
    bounds, q = [n_picked * i for i in range(HEADS + 1)], decode.normal(1, HEADS * GROUP, 1, DIM)
    call = partial(attend.ragged, q, keys, values, bounds=bounds, index=index, scale=DIM**-0.5)
    return beside(f"picked, {name}", call, stored=n_stored, picked=n_picked, dtype=name)


def scan(name: str, n_units: int) -> cases.Figure:
    """One query per head asks every unit."""
    centres = decode.normal(1, HEADS, n_units, DIM, dtype=decode.DTYPES[name])
    q = decode.normal(1, HEADS * GROUP, DIM, seed=1)
    call = partial(units.logits, q, centres)
    return beside(f"scan of {n_units}, {name}", call, units=n_units, dtype=name)


def choosing(n_units: int = 8192) -> cases.Figure:
    """Votes, then units of 2,400 entries to read and 30,000 to estimate."""
    logits = decode.normal(1, HEADS * GROUP, n_units)
    sizes = torch.randint(1, 32, (1, HEADS, n_units), dtype=torch.int32)
    amounts = [torch.full((1, HEADS), n) for n in (2400, 30000)]

    def call() -> list[Tensor]:
        return units.within(units.votes(logits, sizes), sizes, *amounts)

    return beside("choosing", call, units=n_units)


def packing(n: int) -> cases.Figure:
    """Keys of n tokens as integers of 4 bits, in groups of 64 channels."""
    x = decode.normal(n * HEADS, DIM)
    return beside(f"packing of {n}", lambda: affine.encode_rows(x, 4, 64), entries=n)


def coded(text: str, n: int) -> cases.Figure:
    """One query per head over all entries of a coded run, against decoding them block by block."""
    shape = Geometry(1, HEADS * GROUP, HEADS, DIM, DIM, torch.bfloat16, DIM**-0.5)
    (part,) = [part for part in Recipe.parse(text).parts if part.room == "encode"]
    turn = Rope(10000.0 ** -(torch.arange(DIM // 2) / (DIM // 2)), False)
    env = Env(0, shape, turn, fixed={name: _books(part, shape) for name, _ in argument.assets(part)})
    total = n * HEADS
    keys, values = (decode.normal(total, DIM, dtype=torch.bfloat16, seed=seed) for seed in range(2))
    places = torch.arange(n, dtype=torch.int32).repeat(HEADS)
    held = Coded.of(part, env, flat.Flat((1, HEADS), (n,) * HEADS, keys, values, places, None, {}))
    asked = Queries(decode.normal(1, HEADS * GROUP, 1, DIM), Stretch.whole(1, (n,)), shape, turn)
    return beside(text, partial(held.attend, asked), entries=n, recipe=text)


def _books(part: Any, shape: Geometry) -> dict[str, Tensor]:
    """Random codewords of one layer: time does not depend on them."""
    spelling = part.spelling
    sizes = {"keys": shape.key_dim, "values": shape.value_dim}
    return {
        name: torch.randn(1, HEADS, spelling.m, 256, dim if spelling.is_sum else dim // spelling.m).half()
        for name, dim in sizes.items()
    }


def mass(name: str, n: int) -> cases.Figure:
    """The newest query of every head against all keys of a layer."""
    dtype = decode.DTYPES[name]
    shape = Geometry(1, HEADS * GROUP, HEADS, DIM, DIM, dtype, DIM**-0.5)
    keys = decode.normal(1, HEADS, n, DIM, dtype=dtype)
    places = torch.arange(n, dtype=torch.int32).expand(1, HEADS, n)
    live = torch.ones(1, HEADS, n, dtype=torch.bool)
    lengths = torch.full((1, HEADS), n, dtype=torch.int32)
    entries = Entries(lengths, live, places, None, {}, lambda: keys, lambda: keys)
    q = decode.normal(1, HEADS * GROUP, 1, DIM, seed=1)
    lse = torch.logsumexp(units.logits(q[:, :, 0], keys) * shape.scale, -1)[..., None]
    piece = Piece(q, q, q, Stretch.whole(1, (n - 1,)), find_lse=lambda: lse)
    call = partial(masses.column_sums, shape, piece, entries)
    return beside(f"mass of {n}, {name}", call, entries=n, dtype=name)


def many(kind: str, name: str, n_queries: int, n: int) -> cases.Figure:
    """The newest queries of every head against all keys: a window's, or a piece's whose lse is known."""
    dtype = decode.DTYPES[name]
    shape = Geometry(1, HEADS * GROUP, HEADS, DIM, DIM, dtype, DIM**-0.5)
    keys, q = (
        decode.normal(1, HEADS, n, DIM, dtype=dtype),
        decode.normal(1, HEADS * GROUP, n_queries, DIM, seed=1),
    )
    places = torch.arange(n, dtype=torch.int32).expand(1, HEADS, n)
    lengths, live = torch.full((1, HEADS), n, dtype=torch.int32), torch.ones(1, HEADS, n, dtype=torch.bool)
    entries = Entries(lengths, live, places, None, {}, lambda: keys, lambda: keys)
    if kind == "window":
        call = partial(masses.window_mass, shape, q.to(dtype), places[:, 0, -n_queries:], entries)
    else:
        lse = torch.full((1, HEADS * GROUP, n_queries), 9.0)
        piece = Piece(q.to(dtype), q, q, Stretch.whole(n_queries, (n - n_queries,)), find_lse=lambda: lse)
        call = partial(masses.column_sums, shape, piece, entries)
    label = f"{kind} of {n_queries} over {n}, {name}"
    return beside(label, call, queries=n_queries, entries=n, dtype=name)


def centres(kind: str, sets: int, n: int, dim: int) -> cases.Figure:
    """n vectors of every set beside 256 centres."""
    x, beside_them = decode.normal(sets, n, dim), decode.normal(sets, 256, dim, seed=1)
    call = (
        partial(kmeans.nearest, x, beside_them)
        if kind == "nearest"
        else partial(kmeans.fit, x, 256, passes=3)
    )
    return beside(f"{kind} of {sets} × {n} × {dim}", call, sets=sets, vectors=n, dim=dim)


CASES: dict[str, cases.Case] = {
    **{f"picked-{name}": partial(picked, name) for name in decode.DTYPES},
    **{f"scan-{name}-{n}": partial(scan, name, n) for name in decode.DTYPES for n in (512, 8192)},
    **{f"coded-{text}": partial(coded, text, 8192) for text in CODES},
    **{f"mass-{name}-{n}": partial(mass, name, n) for name in decode.DTYPES for n in (512, 32768)},
    **{
        f"window-{name}-{n}": partial(many, "window", name, 32, n)
        for name in decode.DTYPES
        for n in (2048, 32768)
    },
    **{
        f"sums-{name}-{s}": partial(many, "sums", name, s, 4096) for name in decode.DTYPES for s in (64, 1024)
    },
    **{
        f"{kind}-{sets}-{n}-{dim}": partial(centres, kind, sets, n, dim)
        for kind in ("nearest", "books")
        for sets, n, dim in ((32, 8000, 4), (1, 100000, 8), (8, 8192, 128))
    },
    "choosing": choosing,
    **{f"packing-{n}": partial(packing, n) for n in (1, 32, 8192)},
}

if __name__ == "__main__":
    sys.exit(cases.main("reading_kernels", CASES))
