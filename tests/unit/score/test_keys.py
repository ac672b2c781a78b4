"""Scores that look at keys only, and the two that look at nothing but ordinals."""

from __future__ import annotations

import torch

from keyvalise.ops import rope
from keyvalise.score.keydiff import KeydiffScore
from keyvalise.score.norm import NormScore
from keyvalise.score.random import RandomScore
from keyvalise.score.recency import RecencyScore
from keyvalise.types.data import Env
from keyvalise.types.part import Score
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_piece, make_rope, random

PIECE = make_piece(random(1, 6, 1, 10))
KEYS = random(1, 2, 63, 10, seed=5)


def score(part: Score, keys: torch.Tensor, env: Env | None = None) -> torch.Tensor:
    return part.score(env or make_env(), make_entries(keys), {}, PIECE).values


def test_knorm_is_the_negative_length_and_rotation_invariant() -> None:
    got = score(NormScore(), KEYS)
    assert_close(got, -KEYS.double().pow(2).sum(-1).sqrt(), "score_fp32")
    turned = rope.apply(KEYS, torch.arange(63) + 7, make_rope())
    assert_close(score(NormScore(), turned), got, "score_fp32")


def test_keydiff_is_the_negative_cosine_to_the_mean_direction() -> None:
    keys = KEYS.double()
    units = keys / keys.norm(dim=-1, keepdim=True)
    want = -torch.nn.functional.cosine_similarity(keys, units.mean(2, keepdim=True), dim=-1)
    assert_close(score(KeydiffScore(), KEYS), want, "score_fp32")


def test_keydiff_ignores_lengths_and_punishes_repetition() -> None:
    got = score(KeydiffScore(), KEYS)
    assert_close(score(KeydiffScore(), KEYS * (1 + torch.arange(63.0))[:, None]), got, "score_fp32")
    crowd = torch.cat([KEYS, KEYS[:, :, 7:8].expand(-1, -1, 30, -1)], 2)
    assert (score(KeydiffScore(), crowd)[..., 7] < got[..., 7]).all()


def test_keydiff_of_a_zero_key_is_zero() -> None:
    keys = KEYS.clone()
    keys[:, :, 3] = 0
    got = score(KeydiffScore(), keys)
    assert got.isfinite().all()
    assert_same(got[..., 3], torch.zeros(1, 2))


def test_recency_is_the_ordinal() -> None:
    ordinals = torch.tensor([[[0, 9, 62], [5, 60, 62]]])
    entries = make_entries(KEYS[:, :, :3], ordinals=ordinals)
    assert_same(RecencyScore().score(make_env(), entries, {}, PIECE).values, ordinals.float())


def test_random_follows_the_ordinal_and_differs_by_head_layer_and_seed() -> None:
    whole = score(RandomScore(), KEYS)
    kept = torch.tensor([3, 8, 60]).expand(1, 2, 3)
    some = RandomScore().score(make_env(), make_entries(KEYS[:, :, :3], ordinals=kept), {}, PIECE).values
    assert_same(some, whole.gather(-1, kept))
    assert not torch.isclose(whole[0, 0], whole[0, 1]).any()
    for other in (make_env(seed=1), make_env(layer=1)):
        assert not torch.isclose(score(RandomScore(), KEYS, other), whole).any()
