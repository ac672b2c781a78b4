"""CaM: who gets what, by what chance, and what attention makes of it on average."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from keyvalise.act.cam import CamAct
from keyvalise.ops import hashing
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Entries, Env, Scores
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, random

N, H = 63, 2


def merge(
    part: CamAct, entries: Entries, keep: Tensor, scores: Tensor | None = None, seed: int = 0
) -> Choice:
    check_arguments(part)
    scores = torch.ones(entries.live.shape) if scores is None else scores
    choice = Choice(keep & entries.live)
    choice, own = part.act(make_env(seed=seed), entries, choice, Scores(scores), None)
    assert own is None and choice.keys is None
    assert part.cost(make_geometry(), N, 7) == 0
    return choice


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Everybody draws this number."""

    def fixed(number: float) -> None:
        def drawn(env: Env, part: str, entries: Entries) -> Tensor:
            return torch.full(entries.live.shape, number, dtype=torch.float64)

        monkeypatch.setattr(hashing, "per_entry", drawn)

    return fixed


@pytest.mark.parametrize("weight", ["none", "mass"])
def test_nobody_drawn_is_dropping(weight: str, draw: Callable[[float], None]) -> None:
    draw(1.0)
    entries = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1))
    keep = (torch.arange(N) % 3 > 0).expand(1, H, N)
    choice = merge(CamAct(weight=weight), entries, keep)  # type: ignore[arg-type]
    assert choice.values is not None
    assert_same(choice.values, entries.values())
    assert choice.add_logw is None or not choice.add_logw.any()


@pytest.mark.parametrize("m", [1, 4, 32])
def test_shares_go_to_the_next_keepers_and_nothing_is_lost(m: int, draw: Callable[[float], None]) -> None:
    draw(0.0)
    values = random(1, H, N, 5, seed=1)
    entries, keep = make_entries(random(1, H, N, 5), values), (torch.arange(N) % 3 > 0).expand(1, H, N)
    choice = merge(CamAct(m), entries, keep)
    want = values.clone()
    for i in range(0, N, 3):
        heirs = [j for j in range(i, N) if j % 3 > 0][:m]
        want[:, :, heirs] += values[:, :, i : i + 1] / len(heirs)
    assert choice.values is not None
    assert_close(choice.values[keep], want[keep], "attention_fp32")
    assert_close((choice.values * keep[..., None]).sum(2), values.sum(2), "attention_fp32")


def test_the_last_entries_have_no_heirs(draw: Callable[[float], None]) -> None:
    draw(0.0)
    entries = make_entries(random(1, H, N, 5), random(1, H, N, 5, seed=1))
    choice = merge(CamAct(), entries, (torch.arange(N) < 40).expand(1, H, N))
    assert choice.values is not None
    assert_same(choice.values, entries.values())


def test_the_chance_is_the_share_of_the_heirs_mean() -> None:
    scores = torch.ones(1, 1, N)
    scores[..., ::3] = 0.3
    scores[..., 0] = 5.0
    values = torch.zeros(1, 1, N, N)
    values[0, 0] = torch.eye(N)
    entries, keep = make_entries(random(1, 1, N, 5), values), (torch.arange(N) % 3 > 0).expand(1, 1, N)
    drawn = torch.zeros(N)
    for seed in range(400):
        choice = merge(CamAct(4), entries, keep, scores, seed=seed)
        assert choice.values is not None
        drawn += (choice.values[0, 0] * keep[0, 0, :, None]).sum(0) > 0
    assert drawn[0] == 400 and (drawn[keep[0, 0]] == 400).all()
    assert float((drawn[3::3] / 400 - 0.3).abs().max()) < 5 * (0.3 * 0.7 / 400) ** 0.5


@pytest.mark.parametrize("weight", ["none", "mass"])
def test_the_sums_of_the_softmax_are_right_on_average(weight: str) -> None:
    """For the query whose attention the scores are; the denominator only where mass is restored."""
    keys, values, q = 0.3 * random(1, 1, 20, 5), random(1, 1, 20, 5, seed=1), random(5, seed=2)
    logits = (keys @ q)[0, 0]
    logits[9] = logits.min() - 0.5
    attention, keep = logits.softmax(-1), (torch.arange(20) != 9).expand(1, 1, 20)
    entries = make_entries(keys, values)
    sums, norms = [], []
    for seed in range(600):
        part = CamAct(6, weight)  # type: ignore[arg-type]
        choice = merge(part, entries, keep, attention.expand(1, 1, 20), seed=seed)
        assert choice.values is not None
        add = torch.zeros(1, 1, 20) if choice.add_logw is None else choice.add_logw
        mass = attention * add[0, 0].exp() * keep[0, 0]
        sums.append(mass @ choice.values[0, 0])
        norms.append(mass.sum())
    want = attention @ values[0, 0]
    found, spread = torch.stack(sums).mean(0), torch.stack(sums).std(0) / 600**0.5
    assert ((found - want).abs() < 4.5 * spread).all()
    norm = torch.stack(norms)
    if weight == "none":
        assert_close(norm, (1 - attention[9]).expand(600), "score_fp32")
    else:
        assert abs(float(norm.mean()) - 1) < 4.5 * float(norm.std()) / 600**0.5


def test_ragged_heads_and_poisoned_slots() -> None:
    entries = make_entries(random(2, H, N, 5), random(2, H, N, 5, seed=1), lengths=[[N, 17], [0, 5]])
    scores = random(2, H, N, seed=7).abs().masked_fill(~entries.live, float("nan"))
    choice = merge(CamAct(4, "mass"), entries, (torch.arange(N) % 3 > 0).expand(2, H, N), scores)
    assert choice.values is not None and choice.add_logw is not None
    assert choice.values[choice.keep].isfinite().all() and choice.add_logw[choice.keep].isfinite().all()
    alone = make_entries(entries.keys()[:1, :, :17], entries.values()[:1, :, :17])
    small = merge(CamAct(4, "mass"), alone, choice.keep[:1, :, :17], scores[:1, :, :17])
    assert small.values is not None
    mask = small.keep[0, 1]
    assert_close(choice.values[0, 1, :17][mask], small.values[0, 1][mask], "attention_fp32")


def test_only_restored_mass_weighs() -> None:
    assert CamAct().gives == frozenset() and CamAct(weight="mass").gives == {"logw"}
    assert CamAct.changes_keepers
