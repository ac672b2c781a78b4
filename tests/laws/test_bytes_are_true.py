"""bytes_are_true: what a cache says it holds is what it keeps alive, and a budget is never exceeded after a
commit.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import DynamicCache

from keyvalise import KVCache
from tests.support import drive, walk
from tests.support.cases import Case
from tests.support.models import tiny

PROMPT = 178
COMMON = 60
"""All rhythms of the table beat at its multiples."""


def check(model: torch.nn.Module, cache: KVCache, calls: list[drive.Call]) -> None:
    """After every call: said, walked and ledger's sums agree."""
    for i, call in enumerate(calls):
        drive.run(model, cache, [call])
        said = cache.nbytes
        assert said == walk.held_bytes(cache, model), f"call {i} of {cache.recipe}"
        assert said == cache.ledger().nbytes == sum(cache.ledger().by_field().values())


def test_said_equals_walked(case: Case) -> None:
    model = tiny("llama")
    check(model, KVCache(model, case.text), drive.text(64).calls(63, 1))
    check(model, KVCache(model, case.text), drive.text(74, 50, 26).calls(63, 1, 9, 1))


def test_said_equals_walked_while_drafting_forking_and_reordering(case: Case) -> None:
    model = tiny("llama")
    cache = KVCache(model, case.text)
    calls = drive.text(82, 82).calls(63, 1, 7, 1)
    drive.run(model, cache, calls[:1])
    cache.reorder_cache(torch.tensor([1, 1]))
    assert cache.nbytes == walk.held_bytes(cache, model)
    assert not any(line.is_shared for line in cache.ledger().lines)
    twin = cache.fork()
    assert all(line.is_shared for one in (cache, twin) for line in one.ledger().lines)
    drive.run(model, twin, calls[1:2])
    for one in (cache, twin):
        assert one.nbytes == walk.held_bytes(one, model)
    cache.activate_past_recording()
    drive.run(model, cache, calls[1:3])
    assert cache.nbytes == walk.held_bytes(cache, model)
    cache.crop(-4)
    assert cache.nbytes == walk.held_bytes(cache, model)


def full_bytes(model: torch.nn.Module, n_tokens: int) -> int:
    """Keys and values of the full cache, without slack."""
    config = model.config
    return n_tokens * config.num_hidden_layers * config.num_key_value_heads * 2 * config.head_dim * 4


def everywhere(case: Case) -> bool:
    """Whether a budget speaks of all layers: one for some of them says nothing of the others."""
    return all(layer in stage.layers for stage in case.recipe.stages for layer in range(3))


@pytest.mark.parametrize("percent", [15, pytest.param(62.5, marks=pytest.mark.slow)])
def test_a_share_holds_after_every_decision(dropping: Case, percent: float) -> None:
    model = tiny("llama")
    for lengths in ((PROMPT + 2,), (PROMPT + 2, 131, 40)) if everywhere(dropping) else ():
        calls = drive.text(*lengths).calls(PROMPT, 1, 1)
        cache = KVCache(model, dropping.with_budget(f"{percent}%"))
        n_prompt = int(calls[0].mask.sum())
        for i, call in enumerate(calls):
            (kept,) = drive.run(model, cache, [call]).kept
            of_prompt = all(stage.budget.of_prompt for stage in cache.recipe.stages)
            if i == 0 or (dropping.decodes and len(lengths) == 1 and call.mask.shape[1] % COMMON == 0):
                allowed = percent / 100 * full_bytes(model, n_prompt if of_prompt else int(call.mask.sum()))
                assert cache.nbytes <= allowed, f"call {i}: {cache.nbytes} of {allowed}"
                is_full = min(drive.counts(kept)) == call.mask.shape[1]
                assert cache.nbytes > 0.6 * allowed or len(lengths) > 1 or is_full, "room goes unused"


def test_bytes_hold_after_every_decision(dropping: Case) -> None:
    model = tiny("llama")
    for kibibytes in (37, 83) if everywhere(dropping) else ():
        cache = KVCache(model, dropping.with_budget(f"{kibibytes}KiB"))
        for i, call in enumerate(drive.text(PROMPT + 2).calls(PROMPT, 1, 1)):
            drive.run(model, cache, [call])
            if i == 0 or (dropping.decodes and call.mask.shape[1] % COMMON == 0):
                assert cache.nbytes <= kibibytes * 1024


@pytest.mark.parametrize("n", [8, pytest.param(45, marks=pytest.mark.slow)])
def test_tokens_are_counted_exactly(dropping: Case, n: int) -> None:
    model = tiny("llama")
    cache = KVCache(model, dropping.with_budget(f"{n}tok"))
    (kept,) = drive.run(model, cache, drive.text(PROMPT, 90).calls(PROMPT)).kept
    decided = {i: rows for i, rows in kept.items() if i in cache.recipe.stages[0].layers}
    total, allowed = sum(drive.counts(decided)), n * len(decided) * 2 * 4
    assert total == allowed or (dropping.is_bound and 0.5 * allowed < total < allowed)


def test_full_holds_little_more_than_the_stock_cache() -> None:
    model = tiny("llama")
    for n in (7, 63, 163, 450):
        calls = drive.text(n + 20).calls(n, *[1] * 20)
        stock, ours = DynamicCache(config=model.config), KVCache(model, "full")
        for call in calls:
            drive.run(model, stock, [call])
            drive.run(model, ours, [call])
            tokens = call.mask.shape[1]
            assert ours.nbytes <= full_bytes(model, tokens) + full_bytes(model, max(64, tokens // 8))
            assert full_bytes(model, tokens) == walk.held_bytes(stock, model)


def test_a_share_is_of_the_full_cache_in_its_own_dtype() -> None:
    model, calls = tiny("llama"), drive.text(PROMPT).calls(PROMPT)
    cache = KVCache(model, "knorm @ 40%", dtype=torch.bfloat16)
    drive.run(model, cache, calls)
    allowed = 0.4 * full_bytes(model, PROMPT) / 2
    assert 0.8 * allowed < cache.nbytes <= allowed
    wide = KVCache(model, "knorm @ 40%")
    drive.run(model, wide, calls)
    assert 1.8 * cache.nbytes < wide.nbytes < 2.2 * cache.nbytes


def test_the_walk_finds_what_a_view_keeps_alive() -> None:
    parent = torch.zeros(1000)
    hidden = SimpleNamespace(view=parent[:10], deep=[{"x": (lambda: parent[5:6],)}])
    assert sum(walk.storages(hidden).values()) == 4000
    bound = torch.ones(3)
    assert sum(walk.storages(SimpleNamespace(f=lambda: bound.sum())).values()) == 12
    assert walk.storages(SimpleNamespace(n=3, text="x", nothing=None)) == {}
