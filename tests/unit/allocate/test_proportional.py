"""HeadKV's counts: a floor for all, a pool by score, sums to the token."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.allocate.proportional import ProportionalAllocate
from tests.unit.allocate.profiled import table

SCORES = torch.linspace(0.2, 1.7, 24)[torch.randperm(24, generator=torch.Generator().manual_seed(3))].view(
    3, 8
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(7, 90),
    st.integers(20, 130),
    st.floats(1, 30),
    st.floats(0, 4),
    st.sampled_from(["mean", "max"]),
)
def test_sums_are_exact_and_everybody_has_a_floor(
    per_head: int, seen: int, beta: float, temperature: float, how: str
) -> None:
    part = ProportionalAllocate("x", beta, temperature, how)  # type: ignore[arg-type]
    got = table(part, SCORES, [per_head, 9], [seen, 63])
    assert got[0].sum() == 12 * min(per_head, seen) and got[1].sum() == 12 * 9
    pool = int((per_head - 7) / beta + 1e-9)
    assert got[0].min() >= min(per_head - pool, seen)
    assert got.min() >= 7


def test_the_numbers_of_the_sheet() -> None:
    # B' = 120: β = 1.005 leaves a floor of 1, 1.5 one of 40, 10 one of 108; eight more are the window.
    for beta, floor in ((1.005, 1), (1.5, 40), (10.0, 108)):
        scores = torch.zeros(3, 4)
        scores[1, 2] = 1
        got = table(ProportionalAllocate("x", beta), scores, [128], [10_000], guarded=(0, 8))[0]
        assert got.sum() == 12 * 128
        assert got[1, 2] == floor + 8 + (120 - floor) * 12
        assert sorted(got.flatten().tolist())[:-1] == [floor + 8] * 11


def test_shares_follow_the_scores_of_the_group() -> None:
    for how in ("mean", "max"):
        part = ProportionalAllocate("x", 2.0, 1.0, how)  # type: ignore[arg-type]
        got = table(part, SCORES, [47], [1000])[0]
        heads = getattr(SCORES.view(3, 4, 2), {"mean": "mean", "max": "amax"}[how])(-1)
        want = 7 + 20 + heads / heads.sum() * 20 * 12
        assert float((got - want).abs().max()) < 1
        assert torch.equal(got, table(part, heads, [47], [1000])[0]), "kv heads are taken as they are"


@pytest.mark.parametrize(
    "part", [ProportionalAllocate("x", 99.0), ProportionalAllocate("x", temperature=0.0)]
)
def test_no_pool_or_no_power_is_uniform(part: ProportionalAllocate) -> None:
    assert table(part, SCORES, [40], [130])[0].unique().tolist() == [40]


def test_what_a_head_cannot_hold_goes_to_the_others_in_proportion() -> None:
    scores = torch.tensor([[8.0, 2, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    got = table(ProportionalAllocate("x", 1.0), scores, [25], [130])[0]
    # 18·12 = 216 in the pool, floors of 0: one head is full with 123, then the next two share 93 as 2 : 1.
    assert got.tolist() == [[130, 7 + 62, 7 + 31, 7], [7] * 4, [7] * 4]
    got = table(ProportionalAllocate("x", 1.0), scores, [40], [130])[0]
    assert got[0].tolist()[:3] == [130] * 3 and got.sum() == 12 * 40, (
        "zeros are served when all others are full"
    )


def test_equal_scores_are_settled_by_the_lower_layer_then_head() -> None:
    got = table(ProportionalAllocate("x", 2.0), torch.ones(3, 4), [40], [130], guarded=(0, 0))[0]
    assert got.unique().tolist() == [40]
    part = ProportionalAllocate("x", 1.0)
    odd = part.table(torch.ones(3, 4, dtype=torch.float64), torch.tensor([41]), torch.tensor([130]))[0]
    assert odd.flatten().tolist() == [11] * 3 + [10] * 9


def test_a_layer_that_holds_less_keeps_what_it_has() -> None:
    lengths = torch.full((1, 3, 4), 130)
    lengths[0, 0] = 20
    got = table(ProportionalAllocate("x", 2.0), SCORES, [47], [130], lengths=lengths)[0]
    free = table(ProportionalAllocate("x", 2.0), SCORES, [47], [130])[0]
    assert got[0].tolist() == [20] * 4 and torch.equal(got[1:], free[1:])


def test_a_part_of_a_prompt_that_fits_stays_whole() -> None:
    got = table(ProportionalAllocate("x", 1.01), SCORES, [47], [40], prompt=(500,))[0]
    assert got.unique().tolist() == [40]
    later = table(ProportionalAllocate("x", 1.01), SCORES, [47], [130], prompt=(500,))[0]
    whole = table(ProportionalAllocate("x", 1.01), SCORES, [47], [500], prompt=(500,))[0]
    assert whole.sum() == 12 * 47 and (later >= whole.clamp(max=130)).all()
