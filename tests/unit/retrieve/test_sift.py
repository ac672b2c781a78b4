"""A second look: of the units that are found, the best entries are read, and no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from keyvalise.ops import units as sizes_of
from keyvalise.store.indexed import Indexed
from keyvalise.types.data import Queries
from keyvalise.types.errors import UnmetNeed
from keyvalise.types.geometry import Geometry
from keyvalise.types.quantity import Share
from tests.support import reading, segments
from tests.support.compare import assert_close
from tests.support.models import tiny
from tests.support.segments import Runs

COUNTS = [[63] * 3, [17, 60, 0]]
TOGETHER = "pages(3) > together"
"""Units must be the same in all heads."""


def shape(softcap: float | None = None) -> Geometry:
    return Geometry(2, 6, 3, 16, 16, torch.float32, 0.25, softcap)


def best(segment: Indexed, runs: Runs, queries: Queries, n_per_list: Any) -> Tensor:
    """bool [B, Hq, N]: the best entries among those of the units that are found, and the first tokens."""
    reads, _ = segment.search(queries)
    looked = reading.members(segment, runs, reads.exact)
    geometry, always = runs.geometry, reading.always_read(segment, runs)
    per_list = geometry.n_query_heads // max(reads.exact.shape[1], geometry.n_kv_heads)
    logits = geometry.scale * torch.einsum("bhd,nd->bhn", queries.q[:, :, 0].double(), runs.keys.double())
    if geometry.softcap is not None:
        logits = geometry.softcap * (logits / geometry.softcap).tanh()
    logits = logits if runs.logw is None else logits + runs.logw.double()
    found = torch.zeros_like(looked)
    for row in range(len(looked)):
        for head in range(0, geometry.n_query_heads, per_list):
            group = slice(head, head + per_list)
            home = row * geometry.n_kv_heads + head // geometry.group
            (mine,) = looked[row, head].nonzero(as_tuple=True)
            assert bool((looked[row, group] == looked[row, head]).all())
            wanted = logits[row, group][:, mine].softmax(-1).sum(0)
            kept = mine[wanted.topk(min(n_per_list(home), len(mine))).indices]
            found[row, group, kept] = True
    own = torch.arange(len(runs.counts)).repeat_interleave(torch.tensor(runs.counts))
    theirs = torch.arange(len(runs.counts)).view(*runs.shape).repeat_interleave(geometry.group, 1)
    return found | (always & (own == theirs[..., None]))


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("units", ["pages(3)", "pages(3) > each", "clusters(4, segment=32)", TOGETHER])
def test_the_best_entries_of_what_is_found_are_read(units: str, weighs: bool, softcap: float | None) -> None:
    counts = [[63] * 3] * 2 if units == TOGETHER else COUNTS
    runs = Runs.random(shape(softcap), counts, weighs=weighs)
    queries = segments.queries(runs.geometry, 2, 1)
    for cuts in ((), (20,), (20, 33)):
        segment = reading.indexed(runs, f"{units} > sift(5, within=18, sinks=2)", cuts=cuts)
        got, _ = segment.attend(queries)
        want = reading.answer(queries, runs, best(segment, runs, queries, lambda home: 5))
        assert_close(got.out, want.out.float(), "score_fp32")
        assert_close(got.lse, want.lse.float(), "score_fp32")


def test_shares_are_of_all_that_is_in_units() -> None:
    runs = Runs.random(shape(), COUNTS)
    queries = segments.queries(runs.geometry, 2, 1)
    segment = reading.indexed(runs, "pages(3) > sift(10%, within=40%, sinks=2)", cuts=(20,))
    held = [max(n - 2, 0) for n in runs.counts]
    want = reading.answer(queries, runs, best(segment, runs, queries, lambda i: max(1, int(0.1 * held[i]))))
    assert_close(segment.attend(queries)[0].out, want.out.float(), "score_fp32")


def test_as_much_as_is_looked_at_is_plain_reading() -> None:
    runs, queries = Runs.random(shape(), COUNTS), segments.queries(shape(), 2, 1)
    plain, sifted = (
        reading.indexed(runs, f"pages(3) > {read}", cuts=(20,)).attend(queries)[0]
        for read in ("read(12, sinks=2)", "sift(12, within=12, sinks=2)")
    )
    assert_close(sifted.out, plain.out, "score_fp32")


def test_looking_at_everything_is_exact_search() -> None:
    runs, queries = Runs.random(shape(), COUNTS), segments.queries(shape(), 2, 1)
    exact, sifted = (
        reading.indexed(runs, text, cuts=(20,)).attend(queries)[0]
        for text in (
            "tokens > keys > each > read(9, sinks=2)",
            "pages(3) > each > sift(9, within=100%, sinks=2)",
        )
    )
    assert_close(sifted.out, exact.out, "score_fp32")


def test_amounts() -> None:
    sizes = torch.tensor([[[3, 4, 0], [50, 50, 100]]])
    assert sizes_of.amounts(7, sizes).tolist() == [[7, 7]]
    assert sizes_of.amounts(Share(10.0), sizes).tolist() == [[0, 20]]


@pytest.mark.parametrize("text", ["pages > sift(2%) > host", "pages > sift(2%); int4"])
def test_keys_must_lie_near(text: str) -> None:
    from keyvalise import KVCache

    with pytest.raises(UnmetNeed, match="sift needs entries:near"):
        KVCache(tiny("llama"), text)
