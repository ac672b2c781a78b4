"""Reduction over the group and over the layer."""

from __future__ import annotations

import torch

from keyvalise.ops import heads
from keyvalise.types.data import Scores
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_geometry, random

NAN = float("nan")


def test_query_head_h_belongs_to_kv_head_h_over_g() -> None:
    values = torch.tensor([1.0, 2, 3, 10, 20, 60]).view(1, 6, 1)
    geometry = make_geometry()
    assert heads.reduce(Scores(values), geometry).values.flatten().tolist() == [2.0, 30.0]
    assert heads.reduce(Scores(values), geometry, "max").values.flatten().tolist() == [3.0, 60.0]


def test_kinds() -> None:
    mass = Scores(random(1, 6, 7).softmax(-1), "mass")
    reduced = heads.reduce(mass, make_geometry())
    assert reduced.kind == "mass"
    assert_close(reduced.values.sum(-1), torch.ones(1, 2), "score_fp32")
    assert heads.reduce(mass, make_geometry(), "max").kind == "free"
    assert heads.reduce(Scores(mass.values, "logit"), make_geometry(), "max").kind == "logit"


def test_reduced_scores_pass() -> None:
    for axis in (1, 2):
        scores = Scores(random(3, axis, 7))
        assert heads.reduce(scores, make_geometry()) is scores


def test_layer_ignores_dead_slots() -> None:
    values = random(2, 6, 7)
    live = torch.ones(2, 2, 7, dtype=torch.bool)
    live[1, :, 5:] = False
    values[1, :, 5:] = NAN
    mean, top = (heads.reduce_layer(Scores(values), live, how).values for how in ("mean", "max"))
    assert mean.shape == top.shape == (2, 1, 7)
    assert_close(mean[1, 0, :5], values[1, :, :5].mean(0), "score_fp32")
    assert_same(top[0, 0], values[0].amax(0))
    assert_same(mean[1, 0, 5:], torch.zeros(2))
    assert_same(top[1, 0, 5:], torch.zeros(2))


def test_spread() -> None:
    mask = torch.tensor([[[True, False], [False, False]]])
    assert heads.spread(mask, 6)[0, :, 0].tolist() == [True] * 3 + [False] * 3
    assert heads.spread(mask, 1)[0, 0].tolist() == [True, False]
    assert heads.spread(mask, 2) is mask
