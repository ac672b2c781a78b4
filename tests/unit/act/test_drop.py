"""Dropping changes no choice, owns nothing, costs nothing."""

from __future__ import annotations

import pytest
import torch

from keyvalise.act.drop import DropAct
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Choice, Scores
from keyvalise.types.errors import BadArgument
from keyvalise.types.quantity import Share
from tests.unit.builders import make_entries, make_env, make_geometry


def test_the_choice_passes() -> None:
    choice, entries = Choice(torch.ones(1, 2, 7, dtype=torch.bool)), make_entries(torch.zeros(1, 2, 7, 10))
    got, own = DropAct().act(make_env(), entries, choice, Scores(torch.zeros(1, 2, 7)), ())
    assert got is choice
    assert own == ()
    assert DropAct().cost(make_geometry(), 63, 7) == 0
    assert not DropAct.changes_keepers


@pytest.mark.parametrize("part", [DropAct(), DropAct(4, 32), DropAct(Share(1), Share(50))])
def test_amounts_are_numbers_or_shares(part: DropAct) -> None:
    check_arguments(part)


@pytest.mark.parametrize("part", [DropAct(sinks=-1), DropAct(sinks=Share(101)), DropAct(sinks=2.5)])  # type: ignore[arg-type]
def test_other_amounts_are_refused(part: DropAct) -> None:
    with pytest.raises(BadArgument, match="sinks"):
        check_arguments(part)
