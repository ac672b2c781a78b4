"""Scores of policies: as the shares lost say, by the tiers of now, and never of what a head has given up."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import torch
from torch import Tensor

from keyvalise.ops import policies
from keyvalise.score.policies import MOST, PoliciesScore
from keyvalise.types.data import Env, Piece
from tests.unit.builders import make_entries, make_env, make_piece, random

PART = PoliciesScore(frequent=2, local=3)
LOST = torch.tensor([0.9, 0.7, 0.5, 0.0])


def scored(
    received: list[float], tiers: list[int], policy: int, ordinals: list[int] | None = None
) -> list[float]:
    """Scores of one head when the token after the last has come; a second head is one entry shorter."""
    (watched,) = PART.observers
    n = len(received)
    names = watched.called("received", "close", "rank")  # type: ignore[attr-defined]
    ranks = policies.REST - torch.tensor(tiers, dtype=torch.float32)
    columns = dict(zip(names, (torch.tensor(received), torch.zeros(n), ranks), strict=True))
    numbers = torch.tensor(ordinals or list(range(n)))
    wide = {name: column.expand(1, 2, n) for name, column in columns.items()}
    entries = make_entries(
        random(1, 2, n, 10), lengths=[[n, n - 1]], ordinals=numbers.expand(1, 2, n), columns=wide
    )
    found = PART.score(surroundings(n), entries, stats(watched, policy), piece(int(numbers[-1])))
    assert found.kind == "free" and float(found.values[0, 1, -1]) == 0.0
    assert not bool(found.values.isnan().any())
    return found.values[0, 0].tolist()


def surroundings(n: int) -> Env:
    return make_env(prompt=(n,))


def stats(watched: object, policy: int) -> dict[str, Tensor]:
    lost, held, followed = watched.called("lost", "held", "policy")  # type: ignore[attr-defined]
    known = torch.full((1, 2), policy, dtype=torch.int32)
    return {lost: LOST.expand(1, 2, 4), held: torch.zeros(1, 2, 5), followed: known}


def piece(last: int) -> Piece:
    return make_piece(random(1, 6, 1, 10), (last,))


def near(got: list[float], want: list[float]) -> bool:
    return all(a == b or math.isclose(a, b, rel_tol=1e-6) for a, b in zip(got, want, strict=True))


def test_an_entry_is_worth_what_goes_with_it() -> None:
    got = scored([9.0, 0, 5, 1, 1, 4, 0, 0, 0], [0, 1, 4, 4, 4, 4, 4, 4, 4], -1)
    tiny = torch.finfo(torch.float32).tiny
    assert near(got, [MOST, 0.9, 0.7, tiny, tiny, 0.7, 0.5, 0.5, 0.5])
    assert min(got) > 0, "nothing is worthless while the prompt lasts"


def test_tiers_are_those_of_now() -> None:
    got = scored(
        [9.0, 0, 5, 1, 6, 4, 0, 0, 0], [0, 1, 2, 3, 3, 2, 4, 4, 4], 3, [0, 1, 2, 3, 4, 5, 90, 91, 92]
    )
    assert near(got, [MOST, 0.9, 0.7, -math.inf, 0.7, -math.inf, 0.5, 0.5, 0.5])


def test_what_a_head_has_given_up_must_go() -> None:
    received, tiers = [9.0, 0, 5, 1, 6, 4, 0, 0, 0], [0, 1, 4, 4, 4, 4, 1, 4, 0]
    for policy in range(5):
        got = scored(received, tiers, policy)
        for tier, value in zip((0, 1, 2, 4, 2, 4, 1, 3, 0), got, strict=True):
            assert (value == -math.inf) == (tier > policy)


def test_every_argument_has_an_observer_of_its_own() -> None:
    others = (replace(PART, reduce="max"), replace(PART, local=4), replace(PART, classes="mine"))
    names = [
        frozenset(name for o in part.observers for name in o.columns | o.stats) for part in (PART, *others)
    ]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(names, 2))
