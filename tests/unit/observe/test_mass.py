"""The column "mass": dense column sums, in any pieces, over decode steps."""

from __future__ import annotations

import pytest
import torch

from keyvalise.observe.mass import MassObserver
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import History, make_entries, make_env, make_geometry, make_piece, observed, random


def dense(history: History) -> torch.Tensor:
    sums = history.attention().sum(2).unflatten(1, (history.geometry.n_kv_heads, -1)).mean(2)
    return history.compact(sums)


@pytest.mark.parametrize("cuts", [(), (31,), (7, 8, 50), tuple(range(50, 63))])
def test_any_pieces_equal_dense_column_sums(cuts: tuple[int, ...]) -> None:
    history = History.of(make_geometry(), (63, 20))
    stats, entries = observed(MassObserver(), make_env(), history, cuts)
    assert stats == {}
    assert_close(entries.columns["mass"], dense(history), "score_fp32")


def test_probabilities_of_every_query_are_spent() -> None:
    history = History.of(make_geometry(), (63, 20))
    _, entries = observed(MassObserver(), make_env(), history)
    assert_close(entries.columns["mass"].sum(-1), torch.tensor([[63.0, 63], [20, 20]]), "score_fp32")


def test_inputs_stay_and_dead_slots_are_zero() -> None:
    keys, q = random(1, 2, 9, 10), random(1, 6, 1, 10, seed=1)
    held = make_entries(keys, lengths=[[9, 5]], columns={"mass": torch.ones(1, 2, 9)})
    before = held.columns["mass"].clone()
    _, new = MassObserver().update(make_env(), {}, make_piece(q, (100,), torch.zeros(1, 6, 1)), held)
    assert new["mass"].isfinite().all()
    assert_same(new["mass"][0, 1, 5:], torch.zeros(4))
    assert (new["mass"][0, :, :5] > 1).all()
    assert torch.equal(held.columns["mass"].nan_to_num(-1), before.nan_to_num(-1))
