"""restores_model: a KVCache changes nothing for anybody else, and `detach` leaves nothing behind."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import DynamicCache

import keyvalise
from keyvalise import KVCache
from tests.support import drive
from tests.support.cases import Case
from tests.support.compare import assert_same
from tests.support.traces import assert_untouched, fresh, state


def test_detach_leaves_nothing(case: Case) -> None:
    model = fresh("llama")
    before = state(model)
    cache = KVCache(model, case.text)
    drive.run(model, cache, drive.text(66, 40).calls(63, 1, 1))
    tapped = ("hooks",) if case.recipe.taps else ()
    assert_untouched(state(model), before, but=("attention", "config", *tapped))
    keyvalise.detach(model)
    assert_untouched(state(model), before)
    keyvalise.detach(model)
    assert_untouched(state(model), before)


@pytest.mark.parametrize("family", ["deepseek_v3", "falcon", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("attention", [None, "eager"])
def test_detach_leaves_nothing_on_other_families(family: str, attention: str | None) -> None:
    model = fresh(family, attention)
    before = state(model)
    drive.run(model, KVCache(model, "full"), drive.text(40).calls(39, 1))
    keyvalise.detach(model)
    assert_untouched(state(model), before)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_other_caches_are_served_as_before(attention: str) -> None:
    model = fresh("llama", attention)
    calls = drive.text(66, 40).calls(63, 1, 1)
    want = drive.run(model, DynamicCache(config=model.config), calls).logits
    bare = model(calls[0].ids, attention_mask=calls[0].mask, use_cache=False).logits
    mine = KVCache(model, "knorm @ 9tok")
    for i, call in enumerate(calls):
        drive.run(model, mine, [call])
        assert model.config._attn_implementation == "keyvalise"
        if i == 0:
            assert_same(model(call.ids, attention_mask=call.mask, use_cache=False).logits, bare)
    for got, logits in zip(
        drive.run(model, DynamicCache(config=model.config), calls).logits, want, strict=True
    ):
        assert_same(got, logits)


def test_output_attentions_are_those_of_before() -> None:
    model = fresh("llama", "eager")
    call = drive.text(33, 20).calls(33)[0]
    want = model(call.ids, attention_mask=call.mask, output_attentions=True)
    KVCache(model, "full")
    got = model(call.ids, attention_mask=call.mask, output_attentions=True)
    assert len(got.attentions) == 3
    for a, b in zip((*got.attentions, got.logits), (*want.attentions, want.logits), strict=True):
        assert_same(a, b)


def test_a_second_thread_is_served_as_before() -> None:
    model = fresh("llama")
    calls = drive.text(66, 40).calls(63, *[1] * 3)
    want = drive.run(model, DynamicCache(config=model.config), calls).logits
    got: list[list[torch.Tensor]] = []

    def stock() -> None:
        got.extend(drive.run(model, DynamicCache(config=model.config), calls).logits for _ in range(3))

    thread = threading.Thread(target=stock)
    thread.start()
    for _ in range(3):
        drive.run(model, KVCache(model, "snapkv(window=7) @ 20%"), calls)
    thread.join()
    assert len(got) == 3
    for logits in got:
        for a, b in zip(logits, want, strict=True):
            assert_same(a, b)


def test_two_models_do_not_mix() -> None:
    one, two = fresh("llama", "eager"), fresh("qwen3")
    KVCache(one)
    KVCache(two)
    keyvalise.detach(one)
    assert (one.config._attn_implementation, two.config._attn_implementation) == ("eager", "keyvalise")
    keyvalise.detach(two)
    assert two.config._attn_implementation == "sdpa"
