"""Two stages: the split of every count, what protection takes of it, and the ends of the range."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.select.top import TopSelect
from keyvalise.select.two_stage import TwoStageSelect
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Entries, Scores
from keyvalise.types.part import Select
from tests.support.compare import assert_same
from tests.unit.builders import make_entries, make_env, random

N = 63
COUNTS = torch.tensor([[20, 9, 0]])
ENTRIES = make_entries(torch.zeros(1, 3, N, 2), lengths=[[N, 40, N]])
VALUES, BASE = (random(1, 3, N, seed=i).masked_fill(~ENTRIES.live, float("nan")) for i in (0, 1))
NOBODY = torch.zeros(1, 3, N, dtype=torch.bool)


def choose(part: Select, scores: Scores, protect: Tensor = NOBODY, entries: Entries = ENTRIES) -> Tensor:
    check_arguments(part)
    return part.select(make_env(), scores, COUNTS, protect, entries, scores).keep


def best(scores: Tensor, out: set[int], n: int) -> set[int]:
    return {*sorted({*range(len(scores))} - out, key=lambda t: -float(scores[t]))[:n]}


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("recent", [0, 7])
def test_a_share_by_the_base_and_the_rest_by_the_scores(share: float, recent: int) -> None:
    ends = ENTRIES.lengths[..., None]
    protect = ENTRIES.live & (torch.arange(N) >= ends - recent)
    keep = choose(TwoStageSelect(share), Scores(VALUES, "free", BASE), protect)
    assert keep.sum(-1).tolist() == COUNTS.tolist()
    for head, (n, length) in enumerate(((20, N), (9, 40))):
        guarded = {*range(length - recent, length)}
        first = guarded | best(BASE[0, head, :length], guarded, max(int(share * n) - recent, 0))
        want = first | best(VALUES[0, head, :length], first, n - len(first))
        assert {*keep[0, head].nonzero().flatten().tolist()} == want


def test_without_a_base_or_a_share_it_is_top() -> None:
    top = choose(TopSelect(), Scores(VALUES))
    assert_same(choose(TwoStageSelect(), Scores(VALUES)), top)
    assert_same(choose(TwoStageSelect(0.0), Scores(VALUES, "free", BASE)), top)
    by_base = choose(TopSelect(), Scores(BASE))
    assert_same(choose(TwoStageSelect(1.0), Scores(VALUES, "free", BASE)), by_base)
    assert not torch.equal(top, by_base)


def test_what_must_go_after_the_weighing_goes() -> None:
    values, base = VALUES.clone(), BASE.clone()
    values[..., 3], base[..., 3] = -torch.inf, 100.0
    assert not choose(TwoStageSelect(), Scores(values, "free", base))[..., 3].any()


def test_more_protected_than_counted_keeps_the_newest_of_them() -> None:
    keep = choose(TwoStageSelect(), Scores(VALUES, "free", BASE), ENTRIES.live)
    assert keep[0, 0].nonzero().flatten().tolist() == [*range(N - 20, N)]


def test_one_score_for_all_heads() -> None:
    entries = make_entries(torch.zeros(1, 3, N, 2))
    scores = Scores(random(1, 1, N), "free", random(1, 1, N, seed=1))
    assert choose(TwoStageSelect(), scores, NOBODY, entries).sum(-1).tolist() == COUNTS.tolist()
