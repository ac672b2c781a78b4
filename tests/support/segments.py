"""Segments of every kind over random entries, and what attention over them must be, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from keyvalise.store import flat
from keyvalise.store.arena import Arena
from keyvalise.store.coded import Coded
from keyvalise.store.null import Null
from keyvalise.store.places import Places
from keyvalise.store.ragged import Ragged
from keyvalise.store.tail import Tail
from keyvalise.types.code import Codes, Home, Where
from keyvalise.types.data import Env, Partial, Queries, Stretch
from keyvalise.types.geometry import Geometry
from keyvalise.types.segment import Segment

KINDS = ("tail", "ragged", "coded")


@dataclass(frozen=True, slots=True)
class PlainEncode:
    """A code that changes nothing: what a coded segment does by itself."""

    group: ClassVar[int] = 1
    residual: ClassVar[int] = 0
    side: ClassVar[str] = "post"
    name: ClassVar[str] = "plain"

    def encode(self, env: Env, keys: Tensor, values: Tensor, where: Where, home: Home) -> Codes:
        return Codes({"keys": keys, "values": values}, {})

    def decode(self, env: Env, codes: Codes, where: Where, dtype: Any) -> tuple[Tensor, Tensor]:
        return codes.entry["keys"].to(dtype), codes.entry["values"].to(dtype)


@dataclass(frozen=True)
class Runs:
    """Entries per (row, kv head).

    logw    one number per entry, or None;  first    the first query that sees the entry, None: all do
    """

    geometry: Geometry
    shape: tuple[int, int]
    counts: tuple[int, ...]
    keys: Tensor
    values: Tensor
    logw: Tensor | None
    first: Tensor | None = None

    @staticmethod
    def random(
        geometry: Geometry, counts: Sequence[Sequence[int]], *, seed: int = 0, weighs: bool = False
    ) -> Runs:
        """counts [B][H]."""
        generator = torch.Generator().manual_seed(seed)
        per_head = tuple(n for row in counts for n in row)
        keys, values = (
            torch.randn(sum(per_head), dim, generator=generator)
            for dim in (geometry.key_dim, geometry.value_dim)
        )
        logw = torch.randn(sum(per_head), generator=generator) if weighs else None
        return Runs(geometry, (len(counts), len(counts[0])), per_head, keys, values, logw)

    def pick(self, members: Tensor) -> Runs:
        """The entries where members bool [N] is true."""
        counts = tuple(int(mine.sum()) for mine in members.split(self.counts))
        logw, first = (None if x is None else x[members] for x in (self.logw, self.first))
        return Runs(self.geometry, self.shape, counts, self.keys[members], self.values[members], logw, first)

    def causal(self, kind: str, n: int, members: Tensor | None = None) -> Runs:
        """The same where these entries lie in a segment of a kind and n queries come.

        The last n entries of a tail are the queries' own: seen causally, and not weighted yet.
        """
        first = (
            torch.zeros(self.keys.shape[0], dtype=torch.long) if self.first is None else self.first.clone()
        )
        logw = None if self.logw is None else self.logw.clone()
        if kind == "tail":
            members = torch.ones_like(first, dtype=torch.bool) if members is None else members
            edges = flat.bounds_of(self.counts)
            for begin, mine in zip(edges, members.split(self.counts), strict=False):
                own = begin + mine.nonzero()[-n:, 0]
                first[own] = torch.arange(n)
                if logw is not None:
                    logw[own] = 0.0
        return replace(self, first=first, logw=logw)

    def flat(self) -> flat.Flat:
        ordinals = [torch.arange(n, dtype=torch.int32) for n in self.counts]
        return flat.Flat(self.shape, self.counts, self.keys, self.values, torch.cat(ordinals), self.logw, {})

    def segment(self, kind: str, n: int = 1) -> Segment:
        """These entries as one segment; the last n of a tail came with the queries."""
        if kind == "coded":
            return Coded.of(PlainEncode(), Env(0, self.geometry), self.flat())  # type: ignore[arg-type]
        if kind == "ragged":
            return Ragged.of(self.flat())
        (n_rows, n_heads), length = self.shape, self.counts[0]
        assert set(self.counts) == {length}, "a tail has equally long heads"
        shape, kept = (n_rows, n_heads, length), length - n
        head = Places((n_rows, 1), (kept,) * n_rows, (0,) * n_rows, torch.empty(0, dtype=torch.int32))
        logw = None if self.logw is None else self.logw.view(shape)[..., :kept]
        arena = Arena(self.keys.view(*shape, -1), self.values.view(*shape, -1))
        return Tail(arena, (length,) * n_rows, (kept,) * n_rows, head, logw)


def reference(q: Tensor, runs: Runs, sinks: Tensor | None = None) -> Partial:
    """Softmax attention over the entries of every head in float64, with the absolute log-sum-exp."""
    geometry, edges = runs.geometry, flat.bounds_of(runs.counts)
    (n_rows, n_query, n_queries, _), group = q.shape, geometry.group
    out = torch.zeros(n_rows, n_query, n_queries, geometry.value_dim, dtype=torch.float64)
    lse = torch.full((n_rows, n_query, n_queries), -math.inf, dtype=torch.float64)
    for row in range(n_rows):
        for head in range(n_query):
            home = row * runs.shape[1] + head // group
            span = slice(edges[home], edges[home + 1])
            logits = geometry.scale * q[row, head].double() @ runs.keys[span].double().T
            if geometry.softcap is not None:
                logits = geometry.softcap * (logits / geometry.softcap).tanh()
            if runs.logw is not None:
                logits = logits + runs.logw[span].double()
            if runs.first is not None:
                logits = logits.masked_fill(runs.first[span] > torch.arange(n_queries)[:, None], -math.inf)
            values = runs.values[span].double()
            if sinks is not None:
                logits = torch.cat([logits, sinks[head].double().expand(n_queries, 1)], -1)
                values = torch.cat([values, values.new_zeros(1, geometry.value_dim)])
            if logits.shape[-1]:
                lse[row, head] = logits.logsumexp(-1)
                out[row, head] = logits.softmax(-1) @ values
    return Partial(out, lse)


def queries(geometry: Geometry, n_rows: int, n: int, seed: int = 99) -> Queries:
    """Random queries [B, Hq, n, D] that come behind everything stored."""
    q = torch.randn(
        n_rows, geometry.n_query_heads, n, geometry.key_dim, generator=torch.Generator().manual_seed(seed)
    )
    return Queries(q, Stretch.whole(n, (10_000,) * n_rows), geometry)


def null(geometry: Geometry, seed: int = 5) -> Null:
    """A learned sink per query head."""
    logits = torch.randn(geometry.n_query_heads, generator=torch.Generator().manual_seed(seed))
    return Null(logits, geometry.value_dim)
