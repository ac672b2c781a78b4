"""Scores weighed with values: brute force, the cases in which nothing changes, axes and dead slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keyvalise.ops import heads
from keyvalise.score.output_error import OutputErrorRescore
from keyvalise.score.output_norm import OutputNormRescore
from keyvalise.score.value_norm import ValueNormRescore
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Entries, Env, Scores
from keyvalise.types.part import VOCABULARY, Rescore
from tests.support.compare import assert_close, assert_same
from tests.unit.builders import make_entries, make_env, make_geometry, make_piece, random

N, DIM, WIDTH = 63, 10, 14
LENGTHS = [[N, N], [20, 20]]
PIECE = make_piece(random(2, 6, 1, DIM))
MATRIX = random(6, DIM, WIDTH, seed=9)
VALUES = random(2, 2, N, DIM, seed=3)
ALL = [
    ValueNormRescore(),
    ValueNormRescore(2),
    OutputErrorRescore(),
    OutputErrorRescore("reduced"),
    OutputErrorRescore("exact", "mean"),
    OutputErrorRescore("reduced", "mean"),
    OutputNormRescore(),
    OutputNormRescore("product"),
    OutputNormRescore(eps=0.0),
]


def env_of(matrix: Tensor = MATRIX) -> Env:
    return replace(make_env(), weights={"o_proj": matrix})


def held(values: Tensor = VALUES) -> Entries:
    return make_entries(torch.zeros(values.shape), values, lengths=LENGTHS[: values.shape[0]])


def votes(n_heads: int, seed: int = 0) -> Tensor:
    """Positive scores of any sum, NaN in dead slots."""
    scores = random(2, n_heads, N, seed=seed).exp()
    scores[1, :, 20:] = float("nan")
    return scores


def rescore(part: Rescore, scores: Tensor, values: Tensor = VALUES, env: Env | None = None) -> Scores:
    check_arguments(part)
    return part.rescore(env or env_of(), Scores(scores), held(values), {}, PIECE)


def without_each(shares: Tensor, values: Tensor) -> Tensor:
    """[G, T], [T, D] → [T]: the move of the concatenated outputs when one entry is left out."""
    whole, moved = shares.double() @ values.double(), []
    for t in range(shares.shape[1]):
        rest = shares.double().clone()
        rest[:, t] = 0
        moved.append((rest / rest.sum(-1, keepdim=True) @ values.double() - whole).norm())
    return torch.stack(moved).float()


@pytest.mark.parametrize("part", ALL, ids=str)
@pytest.mark.parametrize("axis", [1, 2, 6])
def test_finite_on_every_axis_with_the_base_beside(part: Rescore, axis: int) -> None:
    scores = votes(axis)
    got = rescore(part, scores)
    assert got.base is not None and got.base.shape == got.values.shape
    assert got.kind == "free" and got.values.shape[1] in (axis, min(axis, 2))
    for tensor in (got.values, got.base):
        assert tensor.dtype == torch.float32 and tensor.isfinite().all()
        assert not tensor[1, :, 20:].any()
    kept = heads.reduce(Scores(scores), make_geometry()).values if got.base.shape[1] == 2 else scores
    assert_same(got.base[0], kept[0])
    assert part.needs <= VOCABULARY and part.room == "rescore" and not part.observers
    assert "scores:mass" in part.takes


@pytest.mark.parametrize("part", ALL, ids=str)
def test_what_must_go_still_goes_and_what_lies_below_zero_counts_as_zero(part: Rescore) -> None:
    scores = votes(2)
    scores[:, :, 5] = -torch.inf
    scores[:, :, 7] = -3.0
    got, zero = rescore(part, scores), scores.clone()
    zero[:, :, 7] = 0.0
    assert torch.isneginf(got.values[:, :, 5]).all() and torch.isneginf(got.values).sum() == 4
    assert_same(got.values[0], rescore(part, zero).values[0])


@pytest.mark.parametrize("part", ALL, ids=str)
def test_the_first_base_stays_when_scores_are_weighed_twice(part: Rescore) -> None:
    scores = Scores(votes(2), "free", votes(2, seed=5))
    got = part.rescore(env_of(), scores, held(), {}, PIECE)
    assert got.base is not None and scores.base is not None
    assert_same(got.base[0], scores.base[0])


@pytest.mark.parametrize("p", [1, 2])
def test_the_length_of_the_value(p: int) -> None:
    scores, lengths = votes(6), VALUES.norm(p=p, dim=-1)
    got = rescore(ValueNormRescore(p), scores).values  # type: ignore[arg-type]
    assert_close(got[0], (scores * lengths.repeat_interleave(3, 1))[0], "score_fp32")
    layer = rescore(ValueNormRescore(p), scores[:, :1]).values  # type: ignore[arg-type]
    assert_close(layer[0], (scores[:, :1] * lengths.mean(1, keepdim=True))[0], "score_fp32")


@pytest.mark.parametrize("how", ["mean", "max"])
def test_a_shared_value_may_be_weighed_before_or_after_the_group(how: str) -> None:
    scores, geometry = votes(6), make_geometry()
    late = heads.reduce(rescore(ValueNormRescore(), scores), geometry, how)  # type: ignore[arg-type]
    early = rescore(ValueNormRescore(), heads.reduce(Scores(scores), geometry, how).values)  # type: ignore[arg-type]
    assert_close(late.values[0], early.values[0], "score_fp32")
    assert late.base is not None and early.base is not None
    assert_same(late.base[0], early.base[0])


def test_values_of_one_length_change_no_order() -> None:
    values, scores = VALUES / VALUES.abs().sum(-1, keepdim=True), votes(2)
    got = rescore(ValueNormRescore(), scores, values).values
    assert_close(got[0], scores[0], "score_fp32")


@pytest.mark.parametrize("axis", [2, 6])
def test_the_error_is_the_brute_force_change_of_the_output(axis: int) -> None:
    scores = votes(axis)
    got = rescore(OutputErrorRescore(), scores).values
    for row, n in ((0, N), (1, 20)):
        shares = scores[row, :, :n] / scores[row, :, :n].sum(-1, keepdim=True)
        for head, group in enumerate(shares.unflatten(0, (2, -1))):
            assert_close(got[row, head, :n], without_each(group, VALUES[row, head, :n]), "score_fp32")


def test_scores_of_a_layer_count_the_change_of_all_heads() -> None:
    scores = votes(1)
    got = rescore(OutputErrorRescore(), scores).values
    shares = scores[0] / scores[0].sum(-1, keepdim=True)
    each = [without_each(shares, values) for values in VALUES[0]]
    assert_close(got[0, 0], torch.stack(each).norm(dim=0), "score_fp32")


def test_reduced_takes_the_mean_of_the_group_first() -> None:
    scores = votes(6)
    early = rescore(OutputErrorRescore(), heads.reduce(Scores(scores), make_geometry()).values)
    assert_same(rescore(OutputErrorRescore("reduced"), scores).values, early.values)
    exact = rescore(OutputErrorRescore(), scores).values
    assert not torch.allclose(exact[0], early.values[0], rtol=0.01)


def test_the_mean_of_the_live_values_as_the_centre() -> None:
    scores = votes(6)
    got = rescore(OutputErrorRescore(centre="mean"), scores).values
    for row, n in ((0, N), (1, 20)):
        shares = scores[row, :, :n] / scores[row, :, :n].sum(-1, keepdim=True)
        factors = (shares / (1 - shares)).unflatten(0, (2, 3)).norm(dim=1)
        values = VALUES[row, :, :n]
        far = (values - values.mean(1, keepdim=True)).norm(dim=-1)
        assert_close(got[row, :, :n], factors * far, "score_fp32")


def test_only_shares_count_so_any_sum_will_do() -> None:
    scores = votes(6)
    for part in (OutputErrorRescore(), OutputErrorRescore("reduced", "mean")):
        assert_close(rescore(part, 70 * scores).values, rescore(part, scores).values, "score_fp32")


def test_equal_values_are_a_tie() -> None:
    values = VALUES[:, :, :1].expand(-1, -1, N, -1).clone()
    got = rescore(OutputErrorRescore(), votes(2), values).values
    assert float(got.max()) < 1e-5 * float(values.norm(dim=-1).max())


def test_a_value_where_the_output_lies_anyway_goes_first_whatever_its_attention() -> None:
    scores, values = votes(2), VALUES.clone()
    scores[0, :, 0] = scores[0].max()
    others = scores[0, :, 1:] / scores[0, :, 1:].sum(-1, keepdim=True)
    values[0, :, 0] = (others[..., None] * values[0, :, 1:]).sum(1)
    assert rescore(OutputErrorRescore(), scores, values).values[0].argmin(-1).tolist() == [0, 0]


def test_all_attention_on_one_entry_is_finite_and_never_dropped() -> None:
    scores = torch.zeros(2, 2, N)
    scores[:, :, 3] = 2.0
    got = rescore(OutputErrorRescore(centre="mean"), scores).values
    assert got.isfinite().all() and got[0].argmax(-1).tolist() == [3, 3]
    assert not rescore(OutputErrorRescore(), torch.zeros(2, 2, N)).values.any()


def test_the_length_behind_the_projection_head_by_head() -> None:
    scores, lengths = (
        votes(6),
        torch.einsum("bhgtd,hgde->bhgte", grouped(VALUES), MATRIX.unflatten(0, (2, 3))),
    )
    norms = lengths.abs().sum(-1).flatten(1, 2)
    exact = rescore(OutputNormRescore(eps=0.25), scores).values
    assert_close(exact[0], ((scores + 0.25) * norms)[0], "score_fp32")
    product = rescore(OutputNormRescore("product", eps=0.25), scores).values
    mean = scores.unflatten(1, (2, 3)).mean(2) + 0.25
    assert_close(product[0], (mean * norms.unflatten(1, (2, 3)).mean(2))[0], "score_fp32")
    layer = rescore(OutputNormRescore(eps=0.25), scores[:, :1]).values
    assert_close(layer[0], ((scores[:, :1] + 0.25) * norms.mean(1, keepdim=True))[0], "score_fp32")


def grouped(values: Tensor) -> Tensor:
    return values[:, :, None].expand(-1, -1, 3, -1, -1)


def test_equal_projected_lengths_change_no_order_whatever_eps() -> None:
    values, scores = VALUES / VALUES.abs().sum(-1, keepdim=True), votes(2)
    # Signed permutations of the channels leave the sum of absolute numbers as it is.
    turned = torch.stack([torch.eye(DIM).roll(head, 0) * (-1) ** head for head in range(6)])
    for eps in (0.0, 1e-4, 0.5):
        got = rescore(OutputNormRescore(eps=eps), scores, values, env_of(turned)).values
        assert_close(got[0], scores[0] + eps, "score_fp32")
