"""Counts: exact sums, bounds, and the uniform split that every allocator reduces to."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keyvalise.allocate.adaptive import AdaptiveAllocate
from keyvalise.allocate.pyramid import PyramidAllocate
from keyvalise.allocate.uniform import UniformAllocate
from keyvalise.types.argument import check_arguments
from keyvalise.types.data import Env, Scores
from keyvalise.types.part import Allocate
from tests.unit.builders import make_env, make_geometry, random

ALL = [UniformAllocate(), AdaptiveAllocate(), AdaptiveAllocate(0.0), AdaptiveAllocate(1.0), PyramidAllocate()]


def guard(lengths: list[list[int]], sinks: int = 0, recent: int = 0) -> torch.Tensor:
    sizes = torch.tensor(lengths)[..., None]
    slots = torch.arange(int(sizes.max()))
    return (slots < sizes) & ((slots < sinks) | (slots >= sizes - recent))


def counts(
    part: Allocate,
    lengths: list[list[int]],
    budget: list[int],
    *,
    recent: int = 0,
    seed: int = 0,
    env: Env | None = None,
) -> torch.Tensor:
    check_arguments(part)
    protect = guard(lengths, recent=recent)
    values = random(*protect.shape, seed=seed)
    values[~(torch.arange(protect.shape[-1]) < torch.tensor(lengths)[..., None])] = float("nan")
    n_heads = protect.shape[1]
    env = env or make_env(make_geometry(query_heads=n_heads, kv_heads=n_heads))
    sizes = torch.tensor(lengths, dtype=torch.int32)
    return part.allocate(env, Scores(values), protect, sizes, torch.tensor(budget))


@pytest.mark.parametrize("part", ALL, ids=str)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_sums_and_bounds(part: Allocate, data: st.DataObject) -> None:
    lengths = data.draw(
        st.lists(st.lists(st.integers(7, 63), min_size=3, max_size=3), min_size=2, max_size=2)
    )
    budget = [data.draw(st.integers(21, 3 * 63)) for _ in lengths]
    got = counts(part, lengths, budget, recent=7)
    assert got.dtype == torch.int64
    assert (got <= torch.tensor(lengths)).all()
    assert (got >= 7).all()
    if not isinstance(part, PyramidAllocate):
        assert got.sum(1).tolist() == [min(b, sum(n)) for b, n in zip(budget, lengths, strict=True)]


@pytest.mark.parametrize("part", ALL, ids=str)
def test_nothing_to_drop_keeps_all(part: Allocate) -> None:
    assert counts(part, [[63, 63, 63]], [3 * 63]).tolist() == [[63, 63, 63]]


def test_uniform_gives_clipped_tokens_to_the_others() -> None:
    assert counts(UniformAllocate(), [[63, 7, 63]], [60]).tolist() == [[27, 7, 26]]
    assert counts(UniformAllocate(), [[63, 63, 63]], [60]).tolist() == [[20, 20, 20]]
    assert counts(UniformAllocate(), [[63, 63, 63]], [62]).tolist() == [[21, 21, 20]]


def test_uniform_never_goes_below_the_protected() -> None:
    lengths, protect = torch.full((1, 3), 63), torch.zeros(1, 3, 63, dtype=torch.bool)
    protect[0, 2, :40] = True
    got = UniformAllocate().allocate(
        make_env(), Scores(torch.zeros(1, 1, 63)), protect, lengths, torch.tensor([60])
    )
    assert got.tolist() == [[10, 10, 40]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(7, 63), min_size=3, max_size=3), st.integers(21, 189))
def test_adaptive_with_full_floor_is_uniform(lengths: list[int], budget: int) -> None:
    got, want = (
        counts(part, [lengths], [budget], recent=7) for part in (AdaptiveAllocate(1.0), UniformAllocate())
    )
    assert got.tolist() == want.tolist()


def adaptive(
    values: torch.Tensor, budget: int, floor: float, protect: torch.Tensor | None = None
) -> list[int]:
    live = torch.ones(values.shape, dtype=torch.bool)
    lengths = live.sum(-1, dtype=torch.int32)
    protect = ~live if protect is None else protect
    return (
        AdaptiveAllocate(floor)
        .allocate(make_env(), Scores(values), protect, lengths, torch.tensor([budget]))[0]
        .tolist()
    )


def test_adaptive_without_floor_counts_the_best_of_all() -> None:
    values = random(1, 3, 63)
    best = values.flatten().topk(60).indices // 63
    assert adaptive(values, 60, 0.0) == torch.bincount(best, minlength=3).tolist()


def test_adaptive_keeps_at_least_the_mass_of_uniform() -> None:
    for seed in range(7):
        values = (3 * random(1, 4, 63, seed=seed)).softmax(-1)
        ranked = values[0].sort(-1, descending=True).values
        got = adaptive(values, 40, 0.0)
        kept = sum(float(ranked[h, :n].sum()) for h, n in enumerate(got))
        assert kept >= float(ranked[:, :10].sum()) - 1e-6


def test_adaptive_floor_is_every_heads_own_best() -> None:
    values = torch.stack([torch.arange(63.0), torch.arange(63.0) - 1000])[None]
    assert adaptive(values, 40, 0.0) == [40, 0]
    assert adaptive(values, 40, 0.2) == [36, 4]
    protect = torch.zeros(1, 2, 63, dtype=torch.bool)
    protect[0, 1, -7:] = True
    assert adaptive(values, 40, 0.2, protect) == [33, 7]


def test_adaptive_is_settled_by_the_lower_head_and_skips_what_must_go() -> None:
    assert adaptive(torch.zeros(1, 2, 63), 63, 0.0) == [63, 0]
    values = torch.zeros(1, 2, 63)
    values[0, 0, 9:] = float("-inf")
    assert adaptive(values, 63, 0.0) == [9, 54]
    assert adaptive(torch.full((1, 2, 63), float("-inf")), 63, 0.5) == [0, 0]


def pyramid(
    part: PyramidAllocate, layers: int, n: int, per_head: int, recent: int, prompt: tuple[int, ...] = ()
) -> list[int]:
    """Counts of head 0 in every layer; all heads of a layer agree."""
    geometry = make_geometry(layers=layers, query_heads=3, kv_heads=3)
    rows = [
        counts(
            part, [[n] * 3], [3 * per_head], recent=recent, env=make_env(geometry, layer=layer, prompt=prompt)
        )[0]
        for layer in range(layers)
    ]
    assert all(len(set(row.tolist())) == 1 for row in rows)
    return [int(row[0]) for row in rows]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(7, 60), st.floats(1, 40), st.integers(0, 7))
def test_pyramid_falls_and_sums_to_its_budget(layers: int, per_head: int, beta: float, recent: int) -> None:
    got = pyramid(PyramidAllocate(beta), layers, 63, per_head, recent)
    assert sum(got) == layers * per_head
    assert got == sorted(got, reverse=True)
    assert min(got) >= recent
    assert max(got) <= 63


def test_pyramid_numbers() -> None:
    # b' = 20, m_min = 1, m_max = 39, steps of 9.5 over five layers, 8 protected on top.
    assert pyramid(PyramidAllocate(20.0), 5, 130, 28, 8) == [47, 38, 28, 18, 9]
    assert pyramid(PyramidAllocate(1.0), 5, 130, 28, 8) == [28] * 5
    # Only 38 − 8 = 30 are there for the lowest layer, so the highest gets 40 − 30.
    assert pyramid(PyramidAllocate(20.0), 5, 38, 28, 8) == [38, 33, 28, 23, 18]
    assert pyramid(PyramidAllocate(20.0), 5, 28, 28, 8) == [28] * 5


def test_pyramid_reads_the_prompt_so_that_layers_agree() -> None:
    assert pyramid(PyramidAllocate(20.0), 5, 130, 28, 8, prompt=(38,)) == [38, 33, 28, 23, 18]
    assert pyramid(PyramidAllocate(20.0), 5, 130, 28, 8, prompt=(20,)) == [28] * 5
    assert pyramid(PyramidAllocate(20.0), 5, 130, 28, 8, prompt=(0,)) == [47, 38, 28, 18, 9]
