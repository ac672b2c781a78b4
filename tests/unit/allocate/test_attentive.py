"""Three rates by the attention that a layer pays to its span, and never more than the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.allocate import attentive
from keyvalise.allocate.attentive import AttentiveAllocate
from keyvalise.types.data import Scores
from tests.unit.builders import NAN, make_env

N, HELD = 63, 13


def counts(
    share: float, budget: int = 10**6, part: AttentiveAllocate | None = None, kind: str = "mass"
) -> list[int]:
    """Counts of three heads of N entries, of which the newest HELD are protected and get 1 − share."""
    values = torch.full((1, 3, N + 2), NAN)
    values[..., :N] = share / (N - HELD)
    values[..., N - HELD : N] = (1 - share) / HELD
    protect = torch.zeros(values.shape, dtype=torch.bool)
    protect[..., N - HELD :] = True
    lengths = torch.full((1, 3), N, dtype=torch.int32)
    env = replace(make_env(), seen=(10**6,))
    scores = Scores(values, kind)  # type: ignore[arg-type]
    return (
        (part or AttentiveAllocate())
        .allocate(env, scores, protect, lengths, torch.tensor([budget]))[0]
        .tolist()
    )


@pytest.mark.parametrize(("share", "rate"), [(0.95, 0.7), (0.7, 0.4), (0.3, 0.1)])
def test_the_rate_follows_the_attention(share: float, rate: float) -> None:
    assert counts(share) == [HELD + round(rate * 50)] * 3


def test_thresholds_that_put_every_layer_on_one_side() -> None:
    for share in (0.01, 0.5, 0.99):
        assert counts(share, part=AttentiveAllocate(alpha=0.0, beta=-1.0)) == [HELD + 35] * 3
        assert counts(share, part=AttentiveAllocate(alpha=1.5, beta=1.0)) == [HELD + 5] * 3


def test_all_of_it_and_at_least_one() -> None:
    assert counts(0.7, part=AttentiveAllocate(rate=1.0, step=0.0)) == [N] * 3
    assert counts(0.1, part=AttentiveAllocate(rate=0.2, step=0.9)) == [HELD + 1] * 3
    assert counts(0.99, part=AttentiveAllocate(rate=0.2, step=0.9)) == [N] * 3


def test_a_budget_is_never_exceeded() -> None:
    assert counts(0.95, 100) == [33] * 3
    assert counts(0.95, 3 * HELD + 2) == [HELD] * 3
    assert counts(0.95, 3 * HELD + 3) == [HELD + 1] * 3
    assert attentive.knob(0.4, 0.3, 50, 20) == pytest.approx(0.1)
    assert attentive.knob(0.4, 0.3, 50, 45) == 0.4


def of(values: list[float], kind: str = "mass", is_normed: bool = False) -> float:
    """gamma of the first two of these entries and a dead one."""
    row = torch.tensor([[[*values, NAN]]])
    live: Tensor = torch.arange(len(values) + 1) < len(values)
    span = torch.arange(len(values) + 1) < 2
    shape = (1, 2, len(values) + 1)
    scores = Scores(row, kind)  # type: ignore[arg-type]
    return float(attentive.gamma(scores, live.expand(shape), span.expand(shape), is_normed))


def test_gamma_is_what_is_not_paid_elsewhere() -> None:
    assert of([0.2, 0.3, 0.4, 0.1]) == pytest.approx(0.5)
    assert of([0.2, 0.3, 0.4, 0.1], is_normed=True) == pytest.approx(1.0)
    assert of([2.0, 3.0, 4.0, 1.0], "free") == pytest.approx(0.5)
    assert of([1.0, 0.0, 1.0, 0.0], "logit") == pytest.approx(0.5)
    assert of([-1.0, -2.0, -5.0, -torch.inf], "free") == pytest.approx(0.5)
    assert of([-1.0, 3.0, -5.0, 1.0], "free") == pytest.approx(0.75)
