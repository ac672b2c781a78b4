"""Triangles: sums as written out, blocks found again, and spans that share no token."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from keyvalise.ops import triangles
from tests.support.compare import assert_close
from tests.unit.builders import NAN, random

B = 8
NONE = torch.zeros(1, dtype=torch.long)


def blocks(value: float, *sizes: int) -> Tensor:
    """[1, w, w] with this value in causal blocks along the diagonal."""
    return torch.block_diag(*(torch.full((n, n), value).tril() for n in sizes))[None]


def noise(n: int, seed: int = 0) -> Tensor:
    return random(2, n, n, seed=seed).abs().tril()


def found(attention: Tensor, rule: triangles.Rule, first: int = 0) -> list[int]:
    """Tokens of every span in turn."""
    (numbers,) = rule.numbers(attention, NONE + first)
    assert numbers[0] == 0 and set(numbers.diff().tolist()) <= {0, 1}
    return numbers.bincount().tolist()  # type: ignore[no-any-return]


def written_out(attention: Tensor, rule: triangles.Rule, first: int) -> list[int]:
    """The span of every token of a map [w, w], from sums written out, one candidate after the other."""
    n, chosen = len(attention), list[set[int]]()
    owner, candidates = [0] * n, list[tuple[float, int, int]]()
    for x, y in itertools.combinations_with_replacement(range(first, n), 2):
        cells = [float(attention[i, j]) - rule.theta for i in range(x, y + 1) for j in range(x, i + 1)]
        candidates.append((sum(cells), x, y))
    for score, x, y in sorted(candidates, reverse=True):
        own = {*range(x, y + 1)}
        is_apart = all(len(own & other) <= rule.overlap * len(own | other) for other in chosen)
        if score > 0 and rule.least <= len(own) <= rule.most and is_apart:
            chosen.append(own)
            owner = [owner[i] or len(chosen) * (i in own) for i in range(n)]
    return list(itertools.accumulate((int(a != b) for a, b in itertools.pairwise(owner)), initial=0))


@pytest.mark.parametrize("first", [0, 3])
def test_running_sums_are_the_sums_as_written(first: int) -> None:
    attention, theta = noise(13), 0.6
    got = triangles.scores(attention, theta, NONE.expand(2) + first)
    for x in range(13):
        for y in range(13):
            cells = [(i, j) for i in range(x, y + 1) for j in range(x, i + 1)]
            want = torch.stack([attention[:, i, j] - theta for i, j in cells]).sum(0) if cells else None
            if want is None or x < first:
                assert bool(got[:, x, y].isneginf().all())
            else:
                assert torch.allclose(got[:, x, y], want, atol=1e-5)


@pytest.mark.parametrize("share", [0.38, 0.5, 0.7, 0.94])
@pytest.mark.parametrize("value", [1.0, 7.0])
def test_blocks_are_found_exactly(share: float, value: float) -> None:
    assert found(blocks(value, *[B] * 5), triangles.Rule(share * value, 2, 63)) == [B] * 5
    assert found(blocks(value, 7, 5, 6), triangles.Rule(0.6 * value, 2, 63)) == [7, 5, 6]


def test_blocks_grow_together_below_and_vanish_above() -> None:
    edge, one = (B + 1) / (3 * B + 1), [2 * B]
    assert found(blocks(1.0, B, B), triangles.Rule(edge - 0.01, 2, 63)) == one
    assert found(blocks(1.0, B, B), triangles.Rule(edge + 0.01, 2, 63)) == [B, B]
    above = triangles.scores(blocks(1.0, B, B), 1.01, NONE)
    assert bool((above <= 0).all()) and found(blocks(1.0, B, B), triangles.Rule(1.01, 2, 63)) == one


def test_a_constant_on_both_sides_changes_nothing() -> None:
    attention = noise(30)
    want = triangles.Rule(0.9, 2, 9).numbers(attention, NONE.expand(2))
    got = triangles.Rule(3.9, 2, 9).numbers(attention + 3.0, NONE.expand(2))
    assert torch.equal(got, want) and int(want.max()) > 4


@pytest.mark.parametrize(("least", "most"), [(1, 30), (2, 5), (3, 3), (4, 1)])
@pytest.mark.parametrize(("first", "overlap"), [(0, 0.0), (4, 0.0), (0, 0.3), (4, 0.6)])
def test_the_best_span_first_and_none_like_it(least: int, most: int, first: int, overlap: float) -> None:
    rule = triangles.Rule(0.8, least, most, overlap)
    for seed in range(3):
        attention = noise(21, seed)
        got = rule.numbers(attention, NONE.expand(2) + first)
        for row in range(2):
            assert got[row].tolist() == written_out(attention[row], rule, first)
        assert (int(got.max()) > 0) == (least <= most)


def test_disjoint_spans_are_never_cut_in_two() -> None:
    for seed in range(5):
        for least in (3, 4):
            attention = noise(40, seed)
            scores = triangles.scores(attention, 0.85, NONE.expand(2))
            numbers = triangles.Rule(0.85, least, 8).numbers(attention, NONE.expand(2))
            for row in range(2):
                spans = [(numbers[row] == i).nonzero().flatten() for i in range(int(numbers[row].max()) + 1)]
                good = [
                    least <= len(span) <= 8 and float(scores[row, span[0], span[-1]]) > 0 for span in spans
                ]
                # Of two neighbours one is a span at least: what is left between spans is one gap.
                assert all(a or b for a, b in itertools.pairwise(good)) and any(good)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_attention_of_a_window_alone(softcap: float | None) -> None:
    q, k = random(2, 6, 13, 5), random(2, 2, 13, 5, seed=1)
    first = torch.tensor([0, 4])
    got = triangles.attention(q, k, first, scale=0.7, softcap=softcap)
    for row in range(2):
        for i in range(13):
            seen = range(int(first[row]), i + 1)
            if not seen:
                assert not bool(got[row, i].any())
                continue
            logits = 0.7 * torch.einsum("hd,hjd->hj", q[row, :, i], k[row].repeat_interleave(3, 0))[:, seen]
            logits = logits if softcap is None else softcap * (logits / softcap).tanh()
            want = torch.zeros(13)
            want[seen] = logits.softmax(-1).mean(0) * len(seen)
            assert_close(got[row, i], want, "attention_fp32", what=f"{row}, {i}")


def test_even_attention_is_one_everywhere() -> None:
    got = triangles.attention(torch.zeros(1, 4, 9, 5), random(1, 2, 9, 5), NONE + 2, scale=1.0)
    want = torch.ones(9, 9).tril()
    want[:, :2] = 0
    assert torch.allclose(got[0], want, atol=1e-6)
    assert found(got, triangles.Rule(1.01, 2, 9), 2) == [9]
    assert found(got, triangles.Rule(0.9, 2, 9), 2) == [2, 7]


def test_what_nobody_sees_may_be_anything() -> None:
    attention = noise(13).masked_fill(torch.ones(13, 13).triu(1).bool(), NAN)
    attention[:, :, :2] = NAN
    got = triangles.Rule(0.8, 2, 9).numbers(attention, NONE.expand(2) + 2)
    assert torch.equal(got, triangles.Rule(0.8, 2, 9).numbers(attention.nan_to_num(5.0), NONE.expand(2) + 2))
