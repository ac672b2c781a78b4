"""One shared prefill gives every recipe the cache that it would have made alone."""

from __future__ import annotations

import pytest
import torch

from keyvalise.bench import prefill
from keyvalise.host.cache import KVCache
from keyvalise.recipe.object import Recipe
from tests.support import models

LENGTH = 63
RECIPES = ("full", "snapkv(window=8) @ 25%", "streaming @ 20%", "h2o @ 50%", "adakv(window=8) > int4 @ 30%")
INSIDE = "at prompt, every 13: recency > drop(sinks=2) @ 20tok"


def alone(model, ids, recipe):
    cache = KVCache(model, recipe)
    prefill.forward(model, ids, cache, [cache])
    return cache


def step(model, cache):
    with torch.no_grad():
        return model(torch.tensor([[11, 7]]), past_key_values=cache.fork(), use_cache=True).logits


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "qwen3_next"])
def test_a_shared_prefill_is_the_prefill_of_each(family):
    model, ids = models.tiny(family), models.prompts(1, LENGTH)
    recipes = [*RECIPES, INSIDE] if family == "llama" else RECIPES
    together = prefill.read_all(model, ids, [KVCache(model, recipe) for recipe in recipes])
    for recipe, read in zip(recipes, together, strict=True):
        own = alone(model, ids, recipe)
        assert read.cache.seen == own.seen == LENGTH
        assert read.cache.nbytes == own.nbytes, recipe
        for layer in own.shared.layers:
            assert read.cache.kept_positions(layer) == own.kept_positions(layer), recipe
        torch.testing.assert_close(step(model, read.cache), step(model, own), atol=1e-5, rtol=1e-5)
        assert read.prefill_s > 0


def test_the_model_runs_once_for_all(monkeypatch):
    model, ids = models.tiny("llama"), models.prompts(1, LENGTH)
    n_calls = []
    forward = type(model).forward

    def counted(self, *args, **kwargs):
        n_calls.append(1)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", counted)
    prefill.read_all(model, ids, [KVCache(model, recipe) for recipe in RECIPES])
    assert len(n_calls) == 1
    prefill.read_all(model, ids, [KVCache(model, recipe) for recipe in (*RECIPES, INSIDE)])
    assert len(n_calls) == 3


def test_the_attention_of_the_prompt_is_computed_once(monkeypatch):
    from keyvalise.host.attention import Seam

    model, ids = models.tiny("llama"), models.prompts(1, LENGTH)
    native, calls = Seam.native, []
    monkeypatch.setattr(Seam, "native", lambda seam: (calls.append(1), native(seam))[1])
    prefill.read_all(model, ids, [KVCache(model, recipe) for recipe in RECIPES])
    assert len(calls) == model.config.num_hidden_layers


@pytest.mark.parametrize(
    ("text", "cuts"),
    [("snapkv", False), ("streaming", True), ("h2o", False), ("kivi", False), (INSIDE, True)],
)
def test_what_cuts_the_prompt(text, cuts):
    if text == "streaming":
        cuts = any(
            "in decode" not in str(when) and "every" in str(when)
            for when in Recipe.parse(text).stages[0].when
        )
    assert prefill.cuts_the_prompt(Recipe.parse(text)) is cuts


def test_chunks_and_dense_models_read_alone():
    model = models.tiny("llama")
    assert prefill.can_share(KVCache(model, "snapkv @ 25%"))
    assert not prefill.can_share(KVCache(model, "snapkv @ 25%", prefill_chunk=16))
    assert not prefill.can_share(KVCache(models.tiny("falcon"), "full"))
