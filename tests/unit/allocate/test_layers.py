"""CompressKV's and PrefixKV's counts: by error and by spared share, equal within a layer."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.allocate.layers import LayersAllocate
from keyvalise.allocate.prefix import PrefixAllocate
from tests.unit.allocate.profiled import table

ERRORS = st.lists(st.floats(0, 1), min_size=1, max_size=9)


def by_rounds(errors: list[float], mean: int, least: int, cap: int) -> list[int]:
    """The sharing out one token at a time; the larger error first, of equals the lower layer."""
    whole = sum(errors)
    shares = [e / whole if whole else 0.0 for e in errors]
    total = mean * len(errors)
    counts = [min(max(least + round(s * (total - least * len(errors))), least), cap) for s in shares]
    falling = sorted(range(len(errors)), key=lambda i: -errors[i])
    while (missing := min(total, cap * len(errors)) - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        open_ = [i for i in falling[::step] if (counts[i] < cap if step > 0 else counts[i] > least)]
        for i in open_[: abs(missing)]:
            counts[i] += step
    return counts


@settings(max_examples=80, deadline=None)
@given(ERRORS, st.integers(8, 90), st.integers(0, 60), st.sampled_from([1.0, 1.5, 3.0]))
def test_it_is_the_loop_solved_at_once(errors: list[float], mean: int, least: int, most: float) -> None:
    profile = torch.tensor(errors, dtype=torch.float32)
    got = table(LayersAllocate("x", least, most), profile, [mean], [10_000])[0]
    assert (got == got[:, :1]).all(), "equal in a layer"
    low, cap = min(max(least, 7), mean), int(most * mean + 1e-9)
    assert got[:, 0].tolist() == by_rounds(profile.double().tolist(), mean, low, cap)
    assert got.sum() == 4 * mean * len(errors)


def test_bounds_reductions_and_short_rows() -> None:
    errors = torch.tensor([0.7, 0.2, 0.1])
    assert table(LayersAllocate("x"), errors, [20], [130])[0].unique().tolist() == [20], "below least"
    assert table(LayersAllocate("x", most=1.0), errors, [40], [130])[0].unique().tolist() == [40]
    assert table(LayersAllocate("x"), torch.ones(3), [41], [130])[0].unique().tolist() == [41]
    assert table(LayersAllocate("x"), torch.zeros(3), [41], [130])[0].unique().tolist() == [41]
    assert table(LayersAllocate("x", 8), errors, [40], [130])[0, :, 0].tolist() == [75, 27, 18]
    short = table(LayersAllocate("x", 8), errors, [40], [60])[0, :, 0].tolist()
    assert short == [60, 35, 25], "what the short row cannot hold goes round by round to the others"
    assert table(LayersAllocate("x", 8), errors, [60], [60])[0].unique().tolist() == [60]


def test_rows_have_their_own_budget() -> None:
    errors = torch.tensor([0.7, 0.2, 0.1])
    both = table(LayersAllocate("x", 8), errors, [40, 25], [130, 45])
    assert torch.equal(both[0], table(LayersAllocate("x", 8), errors, [40], [130])[0])
    assert torch.equal(both[1], table(LayersAllocate("x", 8), errors, [25], [45])[0])


@settings(max_examples=60, deadline=None)
@given(ERRORS, st.integers(8, 90), st.integers(20, 130))
def test_dropped_shares_are_scaled_to_the_budget(shares: list[float], mean: int, seen: int) -> None:
    got = table(PrefixAllocate("x"), torch.tensor(shares), [mean], [seen], guarded=(1, 1))[0]
    assert got.sum() == 4 * min(mean, seen) * len(shares) and got.min() >= min(2, mean)
    assert (got == got[:, :1]).all()
    order = torch.tensor(shares).argsort(stable=True)
    falls = got[order, 0].diff()
    assert (falls <= 1).all(), "who may drop more keeps no more, but for a token of rounding"


def test_numbers_of_dropped_shares() -> None:
    part, shares = PrefixAllocate("x"), torch.tensor([0.2, 0.4, 0.6])
    assert table(part, shares, [60], [100])[0, :, 0].tolist() == [80, 60, 40], "the profile's own budget"
    assert table(part, shares, [80], [100])[0, :, 0].tolist() == [90, 80, 70]
    # Nobody drops what is protected: 98 at most, what is left of 240 goes to the others in proportion.
    assert table(part, shares, [20], [100], guarded=(1, 1))[0, :, 0].tolist() == [53, 5, 2]
    assert table(part, torch.zeros(3), [60], [100])[0].unique().tolist() == [60]


def test_a_layer_grows_until_it_holds_its_share() -> None:
    part, shares = PrefixAllocate("x"), torch.tensor([0.2, 0.4, 0.6])
    before = table(part, shares, [50], [100])[0]
    grown = table(part, shares, [50], [101], lengths=before[None] + 1)[0]
    assert (grown == before).sum() >= 4 and (grown - before).max() <= 1
