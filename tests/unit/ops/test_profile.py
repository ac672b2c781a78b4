"""Profiles per kv head, and how many tokens a row has."""

from __future__ import annotations

from dataclasses import replace

import torch

from keyvalise.ops import profile
from tests.unit.builders import make_env

LENGTHS = torch.tensor([[7, 63], [20, 9]], dtype=torch.int32)


def test_query_heads_count_with_their_group() -> None:
    scores = torch.tensor([[0.0, 1, 2, 4], [-1, 1, 0.5, 0.5]])
    assert profile.per_kv_head(scores, 2).tolist() == [[0.5, 3], [0.5, 0.5]]
    assert profile.per_kv_head(scores, 2, "max").tolist() == [[1, 4], [1, 0.5]]
    assert profile.per_kv_head(scores, 4).tolist() == [[0, 1, 2, 4], [0, 1, 0.5, 0.5]]
    assert profile.per_kv_head(scores, 2).dtype == torch.float64


def test_the_reach_of_a_row_is_what_was_seen_or_is_known_to_come() -> None:
    assert profile.reach(make_env(), LENGTHS).tolist() == [63, 20]
    told = replace(make_env(), seen=(90, 70))
    assert profile.reach(told, LENGTHS).tolist() == profile.seen(told, LENGTHS).tolist() == [90, 70]
    both = replace(told, prompt=(40, 130))
    assert profile.reach(both, LENGTHS).tolist() == [90, 130]
    assert profile.seen(both, LENGTHS).tolist() == [90, 70]
    assert profile.reach(make_env(prompt=(40, 130)), LENGTHS).tolist() == [63, 130]


def test_rows_that_fit_keep_everything() -> None:
    env, counts = replace(make_env(), seen=(63, 20)), torch.full((2, 2), 5)
    assert profile.unless_it_fits(counts, env, LENGTHS, torch.tensor([125, 40])).tolist() == [[5, 5], [20, 9]]
