"""How much is read by how even the scores are: bounds, running means, and what it reduces to."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.observe.drift import DriftObserver
from keyvalise.recipe.reader import Reader
from keyvalise.retrieve.cutoff import CutoffReading
from keyvalise.retrieve.read import ReadReading
from keyvalise.types.geometry import Geometry
from keyvalise.types.retrieve import Memo
from tests.support import reading, segments
from tests.support.compare import assert_close, assert_same
from tests.support.segments import Runs
from tests.unit.builders import NAN, random

SHAPE = Geometry(1, 6, 3, 8, 5, torch.float32, 0.4)
SIZES = torch.full((2, 3, 13), 4, dtype=torch.int32)
EVEN = torch.zeros(2, 6, 13)
PEAK = EVEN.clone().index_fill_(-1, torch.tensor([5]), 50.0)
PART = CutoffReading(100)


def amounts(
    part: CutoffReading, logits: Tensor, n: int = 1, sizes: Tensor = SIZES, memo: Memo | None = None
) -> Tensor:
    """What n choices per row read."""
    return part.amounts(logits, sizes, torch.full((2, n), 100), memo or {})[0]


def evenness(logits: Tensor) -> float:
    """Of a list of logits, by plain sums."""
    shares = logits.double().softmax(-1).tolist()
    return -sum(p * math.log(p) for p in shares if p) / math.log(len(shares))


def test_even_scores_read_most_and_one_peak_reads_least() -> None:
    for floor, most in ((0.5, 2.0), (0.0, 1.0), (0.25, 1.5), (1.0, 1.0)):
        part = replace(PART, floor=floor, most=most)
        assert amounts(part, EVEN).tolist() == [[100 * most]] * 2
        assert amounts(part, PEAK).tolist() == [[100 * floor]] * 2
    assert amounts(PART, torch.cat([EVEN[:1], PEAK[:1]])).tolist() == [[200], [50]]


@pytest.mark.parametrize("n", [1, 3, 6])
def test_it_is_the_mean_entropy_of_a_choices_query_heads(n: int) -> None:
    logits = random(2, 6, 13) * torch.linspace(0.5, 3, 6)[:, None]
    got = amounts(replace(PART, floor=0.0, most=9.0), logits, n)
    for row in range(2):
        heads = [evenness(one) for one in logits[row]]
        for choice, own in enumerate(torch.tensor(heads).view(n, -1).mean(-1).tolist()):
            assert int(got[row, choice]) == pytest.approx(200 * own, abs=0.51)
    assert n == 1 or len(set(got[0].tolist())) == n


def test_the_sharper_the_less_and_never_beyond_the_bounds() -> None:
    found = torch.cat([amounts(PART, s * random(2, 6, 13)) for s in (0.0, 1.0, 2.0, 4.0, 8.0, 99.0)], 1)
    for row in found.tolist():
        assert row == sorted(row, reverse=True) and len(set(row)) >= 4
        assert row[0] == 200 and row[-1] == 50


def test_slots_without_units_say_nothing() -> None:
    sizes = SIZES.clone()
    sizes[0, :, 9:] = 0
    poisoned = random(2, 6, 13)
    alone = amounts(replace(PART, floor=0.0), poisoned[:, :, :9], sizes=SIZES[..., :9])
    poisoned[0, :, 9:] = NAN
    assert int(amounts(replace(PART, floor=0.0), poisoned, sizes=sizes)[0]) == int(alone[0])
    for n_units in (0, 1):
        few = torch.where(torch.arange(13) < n_units, SIZES, 0)
        poisoned = torch.full_like(EVEN, NAN).index_fill_(-1, torch.arange(n_units), 3.0)
        assert amounts(PART, poisoned, sizes=few).tolist() == [[200]] * 2, "one unit, or none, is even"


@pytest.mark.parametrize("window", [1, 3, 100])
def test_the_mean_is_of_the_last_steps(window: int) -> None:
    part, memo, means = replace(PART, floor=0.0, most=9.0, window=window), {}, []
    steps = [s * random(2, 6, 13, seed=i) for i, s in enumerate((1.0, 9.0, 2.0, 5.0, 0.0, 30.0))]
    for i, logits in enumerate(steps):
        before = {name: tensor.clone() for name, tensor in memo.items()}
        got, told = part.amounts(logits, SIZES, torch.full((2, 1), 100), memo)
        assert all(torch.equal(memo[name], tensor) for name, tensor in before.items())
        memo = told
        now = [evenness(one) for one in logits[1]]
        e = sum(now) / len(now)
        n = min(i + 1, window)
        means.append(e if not means else means[-1] + (e - means[-1]) / n)
        assert int(got[1]) == pytest.approx(200 * means[-1], abs=0.51)
        assert_close(memo["entropy"][1, 0], torch.tensor([means[-1], n]), "score_fp32")


def reader(read: CutoffReading | ReadReading, more: str = "") -> Reader:
    found = reading.reader(f"pages(3) > centroid > {more}read(9, sinks=2)")
    return replace(found, read=read)


def test_a_step_reads_what_is_told_and_a_reader_remembers() -> None:
    runs = Runs.random(SHAPE, [[63] * 3, [30] * 3])
    segment = reading.indexed(runs, "pages(3) > read(9, sinks=2)", cuts=(20,))
    segment = replace(segment, retrieve=reader(CutoffReading(12, floor=0.5, most=2.0, sinks=2)))
    for scale, least, most in ((1e-4, 22, 24), (100.0, 3, 9)):
        queries = segments.queries(SHAPE, 2, 1)
        reads, memo = replace(segment, memo={}).search(replace(queries, q=scale * queries.q))
        n = (reads.exact >= 0).sum(-1) * 3
        assert bool((n >= least).all()) and bool((n <= most).all()), n
        assert set(memo) == {"exact", "entropy"} and memo["entropy"].shape == (2, 3, 2)
    _, segment = segment.attend(segments.queries(SHAPE, 2, 1))
    _, again = segment.attend(segments.queries(SHAPE, 2, 1, seed=5))
    assert segment.memo["entropy"][..., 1].unique().tolist() == [1]
    assert again.memo["entropy"][..., 1].unique().tolist() == [2]
    index = torch.tensor([1, 0, 1])
    assert_same(again.rows(index).memo["entropy"], again.memo["entropy"][index])


def test_bounds_of_one_are_plain_reading() -> None:
    runs, queries = Runs.random(SHAPE, [[63] * 3, [7, 30, 0]]), segments.queries(SHAPE, 2, 1)
    segment = reading.indexed(runs, "pages(3) > read(9, sinks=2)", cuts=(20,))
    for group in ("", "each > ", "peak > "):
        plain = replace(segment, retrieve=reader(ReadReading(9, sinks=2), group))
        told = replace(segment, retrieve=reader(CutoffReading(9, floor=1.0, most=1.0, sinks=2), group))
        assert_same(told.search(queries)[0].exact, plain.search(queries)[0].exact)
    whole = replace(segment, retrieve=reader(CutoffReading(60, floor=1.0, most=2.0, sinks=2)))
    assert_close(whole.attend(queries)[0].out, segments.reference(queries.q, runs).out.float(), "score_fp32")


def test_where_a_choice_holds_its_entropy_does_too() -> None:
    runs = Runs.random(SHAPE, [[63] * 3] * 2)
    text = "pages(3) > drift(0.5) > cutoff(9, sinks=2)"
    segment = reading.indexed(runs, text, cuts=(20,))
    observer, old = DriftObserver(0.5, 1), segments.queries(SHAPE, 2, 1)
    met = (torch.ones(2, dtype=torch.int32), torch.full((2,), 9, dtype=torch.int32), old.q[:, :, 0])
    old = replace(old, stats=observer.init(segment.env, 2, "cpu"))
    _, first = segment.search(old)
    turned = replace(old, q=torch.cat([old.q[:1], -old.q[1:]]))
    turned = replace(turned, stats=dict(zip(observer.names, met, strict=True)))
    reads, memo = replace(segment, memo=first).search(turned)
    assert memo["entropy"][:, 0, 1].tolist() == [1, 2]
    assert_same(memo["entropy"][0], first["entropy"][0])
    width = first["exact"].shape[-1]
    assert_same(reads.exact[0, :, :width], first["exact"][0])
