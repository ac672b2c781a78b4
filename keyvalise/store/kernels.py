"""Which kernel answers for every segment while decoding."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from keyvalise.ops import answering
from keyvalise.ops.fast.choose import Kind
from keyvalise.store import in_place
from keyvalise.store.coded import Coded
from keyvalise.store.indexed import Indexed
from keyvalise.store.ragged import Ragged
from keyvalise.store.runs import Run
from keyvalise.store.tail import Tail
from keyvalise.types.data import Memory, Queries, Stretch
from keyvalise.types.geometry import Geometry


def of(memory: Memory, geometry: Geometry) -> Iterator[tuple[str, str]]:
    """(kind of segment, kernel) where there is a choice, for one query per head."""
    for segment in memory.segments:
        if isinstance(segment, Tail):
            is_alone = len(memory.segments) == 1 and segment.is_simple and geometry.softcap is None
            group = geometry.n_query_heads // geometry.n_kv_heads
            yield segment.kind, answering.kernel(segment.keys, segment.values, group, is_alone=is_alone)
        elif isinstance(segment, Ragged | Coded):
            yield segment.kind, _of_run(segment, geometry)
        elif isinstance(segment, Indexed):
            yield from ((segment.kind, _of_run(run, geometry, "picked")) for run in segment.runs)


def _of_run(run: Run, geometry: Geometry, kind: Kind = "ragged") -> str:
    if isinstance(run, Coded):
        return _of_codes(run, geometry)
    if isinstance(run, Ragged):
        group = geometry.n_query_heads // geometry.n_kv_heads
        return answering.kernel(run.keys, run.values, group, kind=kind)
    return f"brought from {run.spill.tier}"


def _of_codes(run: Coded, geometry: Geometry) -> str:
    """Codes are read where they lie, or decoded block by block; asked of one entry."""
    n_rows, n_heads = run.shape
    q = torch.zeros(n_rows, geometry.n_query_heads, 1, geometry.key_dim, device=run.device)
    queries = Queries(q, Stretch.whole(1, (0,) * n_rows), geometry, run.env.rope)
    bounds = (0, *([min(1, run.bounds[-1])] * (n_rows * n_heads)))
    found = in_place.answer(run, queries, bounds=bounds)
    return "decoded" if found is None else "in place"
