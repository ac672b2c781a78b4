"""Entries in units: what is read is answered as by one softmax, whatever the units, codes and blocks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from keyvalise.store import flat
from keyvalise.store.indexed import Indexed
from keyvalise.store.ragged import Ragged
from keyvalise.types.data import Env
from keyvalise.types.geometry import Geometry
from tests.support import reading, segments
from tests.support.segments import Runs

SHAPE = Geometry(1, 6, 3, 8, 5, torch.float32, 0.4)
COUNTS = [[63, 63, 63], [7, 30, 0]]
READERS = (
    "tokens > each > read(9, sinks=2)",
    "tokens > keys > each > read(9, sinks=2)",
    "pages(4) > box > each > read(9, sinks=0)",
    "pages(5) > ball > peak > read(20%, sinks=2)",
    "pages(5) > together > read(9, sinks=2)",
    "clusters(4, segment=20) > vote > read(9, sinks=2)",
    "clusters(4) > centroid(measure=cosine) > each > read(30%, sinks=2)",
    "tokens > graph(sample=0, degree=6, width=30) > each > read(9, sinks=2)",
)
BOTH = [
    (text, kind)
    for text in READERS
    for kind in ("ragged", "coded")
    if not {"graph", "keys"} & {*re.findall("[a-z]+", text)} or kind == "ragged"
]
"""Raw keys alone speak for themselves, or are walked along."""


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize(("text", "kind"), BOTH)
def test_what_is_read_is_one_softmax(text: str, kind: str, softcap: float | None) -> None:
    shape = Geometry(1, 6, 3, 8, 5, torch.float32, 0.4, softcap)
    runs = Runs.random(shape, COUNTS, weighs=True)
    for cuts in ((), (17, 40)):
        segment, queries = reading.indexed(runs, text, kind, cuts), segments.queries(shape, 2, 1)
        reads, _ = segment.search(queries)
        read = reading.members(segment, runs, reads.exact) | reading.always_read(segment, runs)
        got, want = segment.attend(queries)[0], reading.answer(queries, runs, read)
        assert torch.allclose(got.lse.double(), want.lse, atol=1e-5) and int(read.sum()) < read.numel()
        assert torch.allclose(got.out.double(), want.out, atol=1e-5)


@pytest.mark.parametrize(("text", "kind"), BOTH)
def test_everything_is_full_attention(text: str, kind: str) -> None:
    runs = Runs.random(SHAPE, COUNTS)
    whole = (
        text.replace("read(9", "read(100%").replace("read(20%", "read(100%").replace("read(30%", "read(100%")
    )
    segment, queries = reading.indexed(runs, whole, kind, (20,)), segments.queries(SHAPE, 2, 1)
    got, want = segment.attend(queries)[0], segments.reference(queries.q, runs)
    assert torch.allclose(got.out.double(), want.out, atol=1e-5)
    assert torch.allclose(got.lse.double(), want.lse, atol=1e-5)


@pytest.mark.parametrize("text", READERS)
def test_several_queries_read_everything(text: str) -> None:
    runs = Runs.random(SHAPE, COUNTS)
    segment, queries = reading.indexed(runs, text), segments.queries(SHAPE, 2, 3)
    got, want = segment.attend(queries)[0], segments.reference(queries.q, runs)
    assert torch.allclose(got.out.double(), want.out, atol=1e-5)


def test_an_estimate_never_weighs_more_than_what_it_stands_for() -> None:
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    text = "clusters(4) > read(9, sinks=0) > estimate(100%)"
    for seed in range(20):
        segment, queries = reading.indexed(runs, text), segments.queries(SHAPE, 2, 1, seed)
        got, want = segment.attend(queries)[0], segments.reference(queries.q, runs)
        assert bool((got.lse <= want.lse + 1e-5).all()) and bool((got.lse < want.lse - 1e-3).any())
        reads, _ = segment.search(queries)
        assert reads.estimate is not None
        exact, guessed = (reading.members(segment, runs, x) for x in (reads.exact, reads.estimate))
        assert not bool((exact & guessed).any())


def test_an_estimate_of_single_entries_is_exact() -> None:
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    segment = reading.indexed(runs, "tokens > read(9, sinks=2) > estimate(100%)", cuts=(20,))
    queries = segments.queries(SHAPE, 2, 1)
    got, want = segment.attend(queries)[0], segments.reference(queries.q, runs)
    assert torch.allclose(got.out.double(), want.out, atol=1e-5)
    assert torch.allclose(got.lse.double(), want.lse, atol=1e-5)


def test_estimating_is_better_than_leaving_out() -> None:
    """At equal reads, in nearly all heads; keys in bunches, as those of one topic are."""
    noise = torch.Generator().manual_seed(3)
    better = total = 0
    for seed in range(10):
        runs = Runs.random(SHAPE, [[130] * 3], seed=seed)
        bunch = torch.randn(3 * 10, 8, generator=noise).repeat_interleave(13, 0)
        runs = replace(runs, keys=runs.keys * 0.3 + bunch)
        queries = segments.queries(SHAPE, 1, 1, seed)
        want = segments.reference(queries.q, runs)
        errors = []
        for residual in ("leave", "estimate(60%)"):
            got = reading.indexed(runs, f"clusters(8) > read(10%) > {residual}").attend(queries)[0]
            errors.append((got.out - want.out).norm(dim=-1))
        better, total = better + int((errors[1] <= errors[0]).sum()), total + errors[0].numel()
    assert better >= 0.9 * total


@pytest.mark.parametrize("group", ["each", "vote", "together"])
@pytest.mark.parametrize("until", [26, 63])
def test_rows_that_get_nothing_keep_their_choice(group: str, until: int) -> None:
    runs, env = Runs.random(SHAPE, [[20] * 3, [63] * 3]), Env(0, SHAPE)
    slots = flat.slots(runs.counts, torch.device("cpu"))

    def part(mine: torch.Tensor) -> Ragged:
        return Ragged.of(replace(runs.pick(mine).flat(), ordinals=slots[mine]))

    segment = Indexed(reading.reader(f"pages(3) > {group} > read(9, sinks=2)"), env)
    segment = segment.grown(part(slots < 10), env, {}).grown(part((slots >= 10) & (slots < 20)), env, {})
    _, segment = segment.attend(segments.queries(SHAPE, 2, 1))
    grown = segment.grown(part((slots >= 20) & (slots < until)), env, {})
    before, after = (reading.members(one, runs, one.memo["exact"]) for one in (segment, grown))
    assert torch.equal(before[0], after[0]) and bool(before[0].any())
    assert grown.memo["stale"].tolist() == [False, True]
    assert len(grown.blocks) == (1 if until == 63 else 2)


def test_blocks_are_joined_so_that_few_are_left() -> None:
    runs = Runs.random(SHAPE, [[63] * 3])
    segment = reading.indexed(runs, "pages(1) > read(5, sinks=0)", cuts=tuple(range(2, 63, 2)))
    sizes = [block.longest for block in segment.blocks]
    assert sum(sizes) == 63 and len(sizes) <= 6 and sizes == sorted(sizes, reverse=True)
    whole = reading.indexed(runs, "pages(1) > read(5, sinks=0)")
    queries = segments.queries(SHAPE, 1, 1)
    got, want = segment.attend(queries)[0], whole.attend(queries)[0]
    assert torch.allclose(got.out, want.out, atol=1e-6)


@pytest.mark.parametrize("kind", ["ragged", "coded"])
def test_entries_come_back_in_their_order(kind: str) -> None:
    runs = Runs.random(SHAPE, COUNTS, weighs=True)
    segment = reading.indexed(runs, "clusters(4) > read(9, sinks=3)", kind, (20, 41))
    entries, plain = segment.entries(), runs.segment("ragged").entries()  # type: ignore[attr-defined]
    assert torch.equal(entries.ordinals, plain.ordinals) and torch.equal(entries.keys(), plain.keys())
    assert torch.equal(entries.values(), plain.values()) and torch.equal(entries.logw, plain.logw)
    assert segment.lengths.tolist() == COUNTS


def test_rows_are_those_of_the_old_segment() -> None:
    runs = Runs.random(SHAPE, COUNTS)
    segment = reading.indexed(runs, "clusters(4) > read(9) > estimate(9)", cuts=(20,))
    queries = segments.queries(SHAPE, 2, 1)
    answer, segment = segment.attend(queries)
    index = torch.tensor([1, 0, 1])
    picked = segment.rows(index)
    again = picked.attend(replace(queries, q=queries.q[index]))[0]
    assert torch.allclose(again.out, answer.out[index], atol=1e-6)
    assert picked.memo["exact"].shape[0] == 3
