"""Rescorers: axes, kinds, and the identity they reduce to."""

from __future__ import annotations

import pytest
import torch

from keyvalise.score.layer import LayerRescore
from keyvalise.score.mean import MaxRescore, MeanRescore
from keyvalise.score.pool import PoolRescore
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Scores
from keyvalise.types.errors import BadArgument
from keyvalise.types.part import Rescore
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, make_piece, random

PIECE = make_piece(random(2, 6, 1, 10))


def rescore(part: Rescore, values: torch.Tensor, kind: str = "free", query_heads: int = 6) -> Scores:
    entries = make_entries(random(2, 2, 63, 10), lengths=[[63, 63], [20, 20]])
    env = make_env(make_geometry(query_heads=query_heads))
    check_arguments(part)
    return part.rescore(env, Scores(values, kind), entries, {}, PIECE)  # type: ignore[arg-type]


def poisoned(axis: int) -> torch.Tensor:
    values = random(2, axis, 63).softmax(-1)
    values[1, :, 20:] = float("nan")
    return values


@pytest.mark.parametrize("axis", [1, 2, 6])
@pytest.mark.parametrize("how", ["mean", "max"])
def test_pool_keeps_the_axis_and_ignores_dead_slots(axis: int, how: str) -> None:
    values = poisoned(axis)
    got = rescore(PoolRescore(5, how), values, "mass")  # type: ignore[arg-type]
    short = torch.nn.functional.pad(values[1:, :, :20], (2, 2), value=0.0).unfold(-1, 5, 1)
    want = short.mean(-1) if how == "mean" else short.amax(-1)
    assert got.kind == "free"
    assert_close(got.values[1:, :, :20], want, "score_fp32")
    assert_same(got.values[1, :, 20:], torch.zeros(axis, 43))


def test_pool_of_one_is_the_identity() -> None:
    values = random(2, 6, 63)
    assert rescore(PoolRescore(1), values, "mass").values is values


def test_pool_before_or_after_the_mean_is_the_same() -> None:
    values = random(2, 6, 63)
    first = rescore(MeanRescore(), rescore(PoolRescore(7), values).values).values
    last = rescore(PoolRescore(7), rescore(MeanRescore(), values).values).values
    assert_close(first[0], last[0], "score_fp32")


@pytest.mark.parametrize("size", [0, 4, 65, 2.5])
def test_a_size_outside_its_range_is_refused(size: int) -> None:
    with pytest.raises(BadArgument, match="size"):
        check_arguments(PoolRescore(size))


@pytest.mark.parametrize(("part", "kind"), [(MeanRescore(), "mass"), (MaxRescore(), "free")])
def test_the_group_becomes_one_head(part: Rescore, kind: str) -> None:
    values = random(2, 6, 63).softmax(-1)
    got, again = rescore(part, values, "mass"), rescore(part, values[:, :2], query_heads=2).values
    grouped = values.unflatten(1, (2, 3))
    assert got.kind == kind
    assert_close(got.values, grouped.mean(2) if kind == "mass" else grouped.amax(2), "score_fp32")
    assert_same(again, values[:, :2])


@pytest.mark.parametrize("how", ["mean", "max"])
def test_layer_gives_one_axis_and_finite_dead_slots(how: str) -> None:
    values = poisoned(6)
    got = rescore(LayerRescore(how), values, "mass")  # type: ignore[arg-type]
    want = values[0].mean(0) if how == "mean" else values[0].amax(0)
    assert got.kind == ("mass" if how == "mean" else "free")
    assert got.values.shape == (2, 1, 63)
    assert got.values.isfinite().all()
    assert_close(got.values[0, 0], want, "score_fp32")
