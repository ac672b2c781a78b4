"""merge_is_attention: entries split over segments in any way, merged in any order, are one attention."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from keyvalise.ops import attend
from keyvalise.types.data import Partial
from keyvalise.types.geometry import Geometry
from tests.support import segments
from tests.support.compare import assert_close
from tests.support.segments import KINDS, Runs


def geometry(*, softcap: float | None = None, heads: int = 2, value_dim: int = 10) -> Geometry:
    return Geometry(1, 3 * heads, heads, 10, value_dim, torch.float32, 10**-0.5, softcap)


def merged(parts: list[Partial]) -> Partial:
    return Partial(*attend.merge_all([(part.out, part.lse) for part in parts]))


def check(got: Partial, want: Partial) -> None:
    assert_close(got.lse, want.lse, "attention_fp32", what="lse")
    assert_close(got.out, want.out, "attention_fp32", what="out")


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("weighs", [False, True])
@pytest.mark.parametrize("kinds", list(itertools.product(KINDS, repeat=2)), ids="+".join)
def test_two_segments_of_any_kinds(
    kinds: tuple[str, str], weighs: bool, softcap: float | None, n: int
) -> None:
    shape = geometry(softcap=softcap)
    whole = Runs.random(shape, [[63, 63], [63, 63]], weighs=weighs)
    asked = segments.queries(shape, 2, n)
    inside = torch.arange(63).repeat(4) < 40
    whole = whole.causal(kinds[0], n, inside).causal(kinds[1], n, ~inside)
    want = segments.reference(asked.q, whole)
    one, two = whole.pick(inside).segment(kinds[0], n), whole.pick(~inside).segment(kinds[1], n)
    answers = [segment.attend(asked)[0] for segment in (one, two)]
    check(merged(answers), want)
    check(merged(answers[::-1]), want)


@pytest.mark.parametrize("seed", range(6))
def test_any_number_of_ragged_pieces_in_any_order(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 40, (2, 3), generator=generator).tolist()
    shape = geometry(heads=3, softcap=5.0 if seed % 2 else None, value_dim=10 if seed % 3 else 6)
    whole = Runs.random(shape, counts, seed=seed, weighs=seed % 2 == 0)
    asked = segments.queries(shape, 2, 1 + 4 * (seed % 2))
    home = torch.randint(0, 4, (whole.keys.shape[0],), generator=generator)
    kinds = ("ragged", "coded", "ragged", "coded")
    answers = [whole.pick(home == i).segment(kind).attend(asked)[0] for i, kind in enumerate(kinds)]
    answers.append(segments.null(shape).attend(asked)[0])
    want = segments.reference(asked.q, whole, segments.null(shape).logits)
    for order in itertools.islice(itertools.permutations(answers), seed, None, 29):
        check(merged(list(order)), want)


def test_merging_is_associative_and_the_empty_answer_is_its_identity() -> None:
    shape = geometry()
    asked = segments.queries(shape, 1, 3)
    a, b, c = (Runs.random(shape, [[9, 4]], seed=i).segment("ragged").attend(asked)[0] for i in range(3))
    check(merged([merged([a, b]), c]), merged([a, merged([b, c])]))
    nothing = Partial(*attend.empty(asked.q, shape.value_dim))
    for order in ([a, nothing], [nothing, a]):
        same = merged(order)
        assert torch.equal(same.out, a.out) and torch.equal(same.lse, a.lse)
    both = merged([nothing, nothing])
    assert torch.equal(both.out, nothing.out) and torch.equal(both.lse, nothing.lse)
    empty = Runs.random(shape, [[0, 0]]).segment("ragged").attend(asked)[0]
    check(empty, nothing)


@pytest.mark.parametrize("n_others", [0, 1, 3])
def test_the_output_alone(n_others: int) -> None:
    torch.manual_seed(n_others)
    answers = [(torch.randn(2, 6, 1, 10), 40 * torch.randn(2, 6, 1)) for _ in range(n_others + 1)]
    for out, lse in answers[:-1]:
        is_empty = torch.rand(lse.shape) < 0.3
        out[is_empty], lse[is_empty] = 0.0, -math.inf
    want = attend.merge_all(answers)[0]
    assert_close(attend.output(answers), want, "attention_fp32", what="out")
