"""Heads compete by what scores were before they were weighed."""

from __future__ import annotations

import torch

from keyvalise.allocate.adaptive import AdaptiveAllocate
from keyvalise.types.data import Scores
from tests.unit.builders import make_env, random

N = 63


def counts(scores: Scores) -> list[list[int]]:
    protect, lengths = torch.zeros(1, 3, N, dtype=torch.bool), torch.full((1, 3), N)
    found = AdaptiveAllocate().allocate(make_env(), scores, protect, lengths, torch.tensor([60]))
    return found.tolist()


def test_the_base_decides_where_there_is_one() -> None:
    values, base = random(1, 3, N).exp(), random(1, 3, N, seed=1).exp() * torch.tensor([1.0, 2, 4])[:, None]
    weighed = counts(Scores(values, "free", base))
    assert weighed == counts(Scores(base)) != counts(Scores(values))
    assert sum(weighed[0]) == 60
