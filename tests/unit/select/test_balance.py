"""Balanced halves: exact counts, weights that stand for what left, and copies that part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from keyvalise.ops import balance
from keyvalise.select.balance import BalanceSelect
from keyvalise.select.sample import SampleSelect
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Entries, Scores
from keyvalise.types.part import Select
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, random

N, H = 63, 3


def some() -> Entries:
    return make_entries(random(1, H, N, 10), random(1, H, N, 10, seed=1))


def choose(
    part: Select, entries: Entries, counts: list[list[int]], protect: Tensor | None = None, seed: int = 0
) -> Choice:
    check_arguments(part)
    shape = entries.live.shape
    protect = torch.zeros(shape, dtype=torch.bool) if protect is None else protect
    scores = Scores(torch.zeros(shape))
    choice = part.select(make_env(seed=seed), scores, torch.tensor(counts), protect, entries, scores)
    assert choice.add_logw is not None and not choice.add_logw[~choice.keep | protect].any()
    return choice


@pytest.mark.parametrize("part", [BalanceSelect(), BalanceSelect(0), BalanceSelect(5, block=7)], ids=str)
@pytest.mark.parametrize("n", [0, 1, 7, 15, 16, 31, 32, 40, 62, 63])
def test_counts_are_exact_and_the_protected_stay(part: BalanceSelect, n: int) -> None:
    entries = make_entries(random(1, H, N, 10), random(1, H, N, 10, seed=1), lengths=[[N, 40, 9]])
    protect = (torch.arange(N) < 5).expand(1, H, N)
    choice = choose(part, entries, [[n] * H], protect)
    assert choice.keep.sum(-1).tolist() == [[min(n, m) for m in (N, 40, 9)]]
    assert not (choice.keep & ~entries.live).any()
    assert (choice.keep & protect).sum(-1).tolist() == [[min(n, 5)] * 3]
    assert choice.add_logw is not None and choice.add_logw.isfinite().all()


def reached(signs: Tensor, half: int) -> int:
    """Where one of both signs has come `half` times."""
    return min(
        int((mine.cumsum(-1) == half).nonzero()[0, 0])
        for mine in (signs > 0, signs < 0)
        if mine.sum() >= half
    )


def test_one_halving_keeps_the_smaller_half_and_counts_twice_up_to_a_point() -> None:
    signs = torch.tensor([[[1.0, 1, -1, 1, -1, 1, 1, 0, 0]]])
    assert balance.halved(signs).tolist() == [[[0, 0, 2, 0, 2, 0, 1, 1, 1]]]
    flipped = balance.halved(-signs)
    assert flipped.tolist() == balance.halved(signs).tolist()
    for n in (1, 2, 17, 62, 63):
        signs = random(2, H, n).sign()
        factor = balance.halved(signs)
        assert ((factor > 0).sum(-1) == n // 2).all()
        # All that stands up to the point where one sign is used up, and the rest as it is.
        half = (n + 1) // 2
        ends = [reached(s, half) for s in signs.flatten(0, 1)]
        for row, s, end in zip(factor.flatten(0, 1), signs.flatten(0, 1), ends, strict=True):
            minority = (s[: end + 1] == -s[end]).sum()
            assert row.sum() == 2 * minority + n - end - 1


def test_weights_stand_for_most_of_the_whole_and_never_for_more() -> None:
    for n in (31, 15):
        choice = choose(BalanceSelect(), some(), [[n] * H])
        assert choice.add_logw is not None
        total = (choice.add_logw.exp() * choice.keep).sum(-1)
        assert (total <= N + 1e-3).all() and (total > 0.6 * N).all()


def test_powers_of_two_need_no_lot_beside_the_walk() -> None:
    choice = choose(BalanceSelect(), some(), [[15] * H])
    assert choice.add_logw is not None
    factors = (choice.add_logw.exp()[choice.keep]).round(decimals=4)
    assert set(factors.tolist()) <= {1.0, 2.0, 4.0}


def test_a_last_round_takes_only_the_oldest() -> None:
    choice = choose(BalanceSelect(), some(), [[60] * H])
    assert choice.keep[..., 6:].all() and choice.keep[..., :6].sum(-1).tolist() == [[3] * H]
    assert choice.add_logw is not None and not choice.add_logw[..., 6:].any()


def test_without_rounds_it_is_the_weighted_sample() -> None:
    entries, protect = some(), (torch.arange(N) >= 56).expand(1, H, N)
    a = choose(BalanceSelect(0), entries, [[20, 30, N]], protect)
    b = choose(SampleSelect(), entries, [[20, 30, N]], protect)
    assert torch.equal(a.keep, b.keep)
    assert a.add_logw is not None and b.add_logw is not None
    assert_close(a.add_logw, b.add_logw, "score_fp32")


def test_without_pull_the_text_does_not_matter() -> None:
    other = make_entries(random(1, H, N, 10, seed=8), random(1, H, N, 10, seed=9))
    for n in (31, 20, 9):
        blind, seeing = BalanceSelect(gamma=0.0), BalanceSelect()
        a, b, c, d = (choose(part, e, [[n] * H]).keep for part in (blind, seeing) for e in (some(), other))
        assert torch.equal(a, b) and not torch.equal(c, d)
        assert not torch.equal(a, choose(blind, some(), [[n] * H], seed=1).keep)


def test_without_pull_everybody_has_the_same_chance() -> None:
    """Of the first half of the walk: its end stays as it is, with weight one."""
    entries, seeds = make_entries(torch.zeros(1, 20, N, 2)), 40
    chances = torch.zeros(N)
    for seed in range(seeds):
        choice = choose(BalanceSelect(1, gamma=0.0), entries, [[31] * 20], seed=seed)
        chances += choice.keep[0].float().mean(0) / seeds
    start = chances[:40]
    assert float((start - start.mean()).abs().max()) < 5 * (0.25 / (20 * seeds)) ** 0.5


def test_two_copies_that_nothing_else_touches_part() -> None:
    """Far apart from all others, the second of two equal entries takes the other side."""
    keys = torch.zeros(1, H, 60, 30)
    for pair in range(30):
        keys[:, :, 2 * pair : 2 * pair + 2, pair] = 20.0
    entries = make_entries(keys, keys.clone())
    choice = choose(BalanceSelect(1, gamma=50.0), entries, [[30] * H])
    up_to = choice.keep[0].float().cumsum(-1)[:, 1::2]
    assert_same(up_to, torch.arange(1.0, 31).expand(H, -1))


def test_signs_do_not_depend_on_padding_or_blocks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, features, draws = (
        random(1, H, N, 10),
        random(1, H, N, 11, seed=1),
        random(1, H, N, seed=2).sigmoid(),
    )
    walk, is_real = balance.Walk(4.0, 1.0, 0.0, 16, 0.3), torch.ones(1, H, N, dtype=torch.bool)
    want = walk.signs(keys, features, is_real, draws)
    assert set(want.unique().tolist()) == {-1.0, 1.0}
    wide = [torch.cat([x, torch.full_like(x[:, :, :9], float("nan"))], 2) for x in (keys, features, draws)]
    real = torch.cat([is_real, ~is_real[..., :9]], -1)
    got = walk.signs(wide[0], wide[1], real, wide[2])
    assert torch.equal(got[..., :N], want) and not got[..., N:].any()
    monkeypatch.setattr(balance, "BLOCK_BYTES", 1)
    assert torch.equal(walk.signs(keys, features, is_real, draws), want)


def test_the_walk_keeps_the_sums_of_both_sides_close() -> None:
    """In a block every step leans against the sum so far: it stays below what signs by lot pile up."""
    keys, values = 0.3 * random(1, 40, 128, 10), random(1, 40, 128, 10, seed=1).abs()
    real, draws = torch.ones(1, 40, 128, dtype=torch.bool), random(1, 40, 128, seed=2).sigmoid()
    sums = []
    for gamma in (4.0, 0.0):
        signs = balance.Walk(gamma, 1.0, 0.0, 128, 0.3).signs(keys, values, real, draws)
        sums.append(float((signs[..., None] * values).sum(2).norm(dim=-1).mean()))
    assert sums[0] < 0.5 * sums[1]
