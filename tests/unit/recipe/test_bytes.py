"""Budgets become tokens: never more bytes than allowed, never a token fewer than would fit."""

from __future__ import annotations

import random

import pytest
import torch

from keyvalise.recipe import bytes as sizes
from keyvalise.recipe import catalogue
from keyvalise.recipe.compose import compose
from keyvalise.recipe.object import Recipe
from keyvalise.recipe.river import LayerRiver
from keyvalise.types.data import Memory
from keyvalise.types.errors import ImpossibleBudget
from keyvalise.types.geometry import Geometry
from keyvalise.types.part import HOST_GIVES

GEOMETRY = Geometry(4, 8, 4, 32, 32, torch.bfloat16, 32**-0.5)
GIVES = HOST_GIVES | {"rope", "rope:static", "weight:o_proj"}
CHAINS = ["snapkv", "h2o", "expected(every=8)", "adakv", "weighted_random", "streaming"]
CODES = ["", " > int4", " > kivi(2, group=32)", " > kivi(4, group=7, residual=20)"]


def river(text: str, geometry: Geometry = GEOMETRY, layer: int = 0) -> LayerRiver:
    return compose(Recipe.parse(text), geometry, GIVES).at(layer)


def drawn_budgets() -> list[tuple[str, str, float, int]]:
    draw = random.Random(4)
    return [
        (draw.choice(CHAINS), draw.choice(CODES), round(draw.uniform(1, 60), 2), draw.randrange(90, 5000))
        for _ in range(40)
    ]


@pytest.mark.parametrize(("chain", "code", "percent", "seen"), drawn_budgets())
def test_shares_are_kept_and_used_up(chain: str, code: str, percent: float, seen: int) -> None:
    own = river(f"{chain}{code} @ {percent}%")
    stage, cost = own.stages[-1], own.costs[0]
    plan = own.plan(stage, seen, seen)
    allowed = seen * GEOMETRY.token_bytes * percent / 100

    def spent(tokens: int, residual: int) -> int:
        return cost.bytes(tokens, cost.raw(tokens, residual))

    if plan.tokens == seen:
        allowed += GEOMETRY.n_kv_heads * 4 * seen  # what follows one another needs no ordinals
    assert 1 <= plan.tokens <= seen
    if plan.tokens > 1:
        assert spent(plan.tokens, plan.residual) <= allowed
    if plan.tokens < seen:
        assert spent(plan.tokens + 1, 0) > allowed
    if cost.code is not None:
        assert plan.residual in cost.residuals
        larger = [residual for residual in cost.residuals if residual > plan.residual]
        assert all(spent(plan.tokens, residual) > allowed for residual in larger)


@pytest.mark.parametrize("text", [f"{chain}{code}" for chain in CHAINS for code in CODES])
def test_more_bytes_are_never_fewer_tokens(text: str) -> None:
    counts = [river(f"{text} @ {percent}%") for percent in (2, 5, 10, 25, 60, 95)]
    tokens = [own.plan(own.stages[0], 997, 997).tokens for own in counts]
    assert tokens == sorted(tokens) and tokens[0] < tokens[-1]


def test_bytes_of_a_raw_entry_count_everything_it_carries() -> None:
    bare = river("knorm @ 10%").costs[0]
    assert bare.bytes(10, 10) == 10 * 4 * (64 * 2 + 4)
    weighted = river("weighted_random @ 10%").costs[0]
    assert weighted.bytes(10, 10) == 10 * 4 * (64 * 2 + 4 + 4)
    ragged = river("knorm > adaptive @ 10%").costs[0]
    assert ragged.bytes(10, 10) == 10 * 4 * (64 * 2 + 4) + 4 * 5


def test_what_outlives_the_prompt_counts_always_and_the_rest_only_before_its_end() -> None:
    once, steady = river("h2o @ 10%"), river("at prompt: mass > drop @ 10%")
    assert once.always and not once.in_prompt and steady.in_prompt and not steady.always
    column = 10 * 4 * 4
    assert once.costs[0].bytes(10, 10) - steady.costs[0].bytes(10, 10) == column
    assert steady.costs[0].bytes(10, 10, in_prompt=True) - steady.costs[0].bytes(10, 10) == column
    plans = [steady.plan(steady.stages[0], 500, total).tokens for total in (500, 501)]
    assert plans[1] < plans[0]


def test_statistics_of_decoding_observers_count() -> None:
    once, always = river("snapkv @ 10%"), river("snapkv(every=64) @ 10%")
    window = 32 * (8 * 32 * 2 + 4)
    assert always.costs[0].bytes(10, 10) - once.costs[0].bytes(10, 10) == window


def test_groups_that_entries_leave_one_by_one_cost_their_parameters() -> None:
    cost = river("knorm > kivi @ 10%").costs[0]
    shared = 4 * 32 * 4
    whole = cost.bytes(64, 0)
    assert cost.bytes(64, 0, 2) == whole + 64 * 4 * 4 + 2 * shared
    assert cost.bytes(64, 0, 1000) == whole + 64 * 4 * 4 + 62 * shared
    plain = river("knorm > int4 @ 10%").costs[0]
    assert plain.bytes(64, 0, 1000) == plain.bytes(64, 0)


def test_the_full_budget_keeps_everything() -> None:
    assert not river("snapkv @ 100%").stages and not river("weighted_random @ 100%").stages
    for name in ("h2o(every=4)", "snapkv > int8"):
        own = river(f"{name} @ 100%")
        assert own.plan(own.stages[0], 777, 777).tokens >= 777


def test_everything_stays_while_it_fits_without_ordinals() -> None:
    own = river("knorm @ 1MiB")
    a_layer = 2**20 // 4 // GEOMETRY.token_bytes
    assert own.plan(own.stages[0], a_layer, a_layer).tokens == a_layer
    assert own.plan(own.stages[0], a_layer + 1, a_layer + 1).tokens < a_layer


def test_bytes_are_shared_out_over_the_layers_of_the_stage() -> None:
    own = river("knorm @ 64KiB on 2..", layer=3)
    tokens = own.plan(own.stages[0], 5000, 5000).tokens
    assert tokens == 32 * 1024 // (4 * (128 + 4))
    assert river("knorm @ 64KiB on 2..", layer=1).stages == ()


def test_tokens_are_tokens() -> None:
    own = river("snapkv @ 128tok")
    assert own.plan(own.stages[0], 5000, 5000) == sizes.Plan(128, 128)
    coded = river("snapkv > kivi @ 128tok")
    assert coded.plan(coded.stages[0], 5000, 5000) == sizes.Plan(128, 128)


def test_a_share_of_the_prompt_does_not_grow_while_decoding() -> None:
    own = river("h2o @ 10%")
    first, later = (own.plan(own.stages[1], seen, 1000) for seen in (1000, 9000))
    assert first == later


def test_at_least_one_token_stays() -> None:
    own = river("snapkv(every=1) @ 1%")
    assert own.plan(own.stages[0], 40, 40).tokens == 1


def test_a_code_alone_shrinks_its_residual_in_whole_groups() -> None:
    free, tight = river("kivi(2, residual=100)"), river("kivi(2, residual=100) @ 20%")
    assert free.residual(2000, 2000) == 100
    found = {n: tight.residual(n, n) for n in (992, 2000, 3000, 40000)}
    assert found == {992: 4, 2000: 36, 3000: 36, 40000: 100}
    for n in (2000, 3000):
        assert of_kivi(n, 36) <= n * 512 * 0.2 < of_kivi(n, 68)
    assert river("snapkv > kivi @ 25%").residual(100, 100) == 128
    assert river("int4 on 2..").residual(50, 50) == 50


def of_kivi(n: int, residual: int) -> int:
    """Bytes of n tokens in 4 heads of 32: 2 bits, a step and an offset per value, and per channel of a
    group.
    """
    groups = -(-(n - residual) // 32)
    return groups * (32 * 4 * (8 + 8 + 4) + 4 * 32 * 4) + (n - 32 * groups) * 512


def test_few_tokens_in_whole_groups_are_told() -> None:
    tight = river("kivi(2, residual=32) @ 25%")
    (said,) = tight.notes(seen_by(60))
    assert said.startswith("kivi writes whole groups of 32 tokens and drops none: 60 tokens take 56.7%")
    assert not tight.notes(seen_by(128)) and not river("kivi(2, residual=32)").notes(seen_by(60))


def seen_by(n: int) -> Memory:
    return Memory((), {}, (n,), (n,))


def test_a_number_of_bytes_that_does_not_hold_the_codes_says_the_least() -> None:
    own = river("int4 @ 1MiB")
    assert own.residual(1000, 1000) == 32
    with pytest.raises(
        ImpossibleBudget, match=r"int4 holds 2000 tokens in 1\.2MiB at least, 1MiB were allowed"
    ):
        own.residual(2000, 2000)


def of(text: str, **changes: object) -> float:
    class Config:
        num_attention_heads, num_key_value_heads, head_dim, hidden_size = 8, 4, 32, 256
        num_hidden_layers, dtype = 4, torch.bfloat16

    for name, value in changes.items():
        setattr(Config, name, value)
    return Recipe.parse(text).bytes_per_token(Config())


def test_bytes_per_token() -> None:
    full = 4 * 4 * 64 * 2
    assert of("full") == full
    assert of("full", dtype=torch.float32) == 2 * full
    assert of("snapkv @ 25%") == pytest.approx(full / 4, rel=1e-3)
    assert of("h2o") == pytest.approx(full / 5, rel=1e-3)
    assert of("snapkv > int4 @ 25%") == pytest.approx(full / 4, rel=1e-3)
    assert of("streaming @ 512tok") == of("streaming @ 1MiB") == 0
    assert of("int4") == 4 * 4 * 2 * (16 + 4)
    assert of("kivi") == 4 * 4 * (8 + 8 + 4 + 4)
    assert of("knorm @ 50% on 2..") == pytest.approx(full * 3 / 4, rel=1e-3)
    assert of("every 64 in decode: knorm @ 10%") == full
    assert of("adakv > int8 @ 100%") == 4 * 4 * (2 * (32 + 4) + 4)


def test_bytes_per_token_in_another_dtype() -> None:
    class Config:
        num_attention_heads, hidden_size, num_hidden_layers = 4, 64, 3

    assert Recipe.parse("full").bytes_per_token(Config(), torch.float16) == 3 * 4 * 32 * 2


@pytest.mark.parametrize("name", catalogue.recipes())
def test_held_bytes_grow_with_the_prompt_by_the_slope(name: str) -> None:
    recipe = Recipe.parse(name)
    n = sizes.LONG
    grown = sizes.held(recipe, GEOMETRY, 2 * n) - sizes.held(recipe, GEOMETRY, n)
    assert grown == sizes.slope(recipe, GEOMETRY) * n
    full = 4 * GEOMETRY.token_bytes
    slope = sizes.slope(recipe, GEOMETRY)
    # What stands for units comes on top of what it stands for; a count of tokens does not grow.
    assert 0 < slope <= full if recipe.reader is None else 0 <= slope <= 3 * full
