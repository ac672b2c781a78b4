"""The attention-output error against a computation by hand from the model's own attention."""

from __future__ import annotations

import pytest
import torch

from keyvalise.bench import error, prefill
from keyvalise.host.cache import KVCache
from tests.support import models

LENGTH = 63
TEXTS = ([11, 7, 23], [5, 90, 33, 41, 8])


def read(model, recipes):
    ids = models.prompts(1, LENGTH)
    return [one.cache for one in prefill.read_all(model, ids, [KVCache(model, recipe) for recipe in recipes])]


def outputs_of_layer_0(model, cache, text):
    """Attention outputs [S, Hq, D] of the first layer, taken where they enter the output projection."""
    taken = []
    layer = model.model.layers[0].self_attn
    hook = layer.o_proj.register_forward_pre_hook(lambda module, args: taken.append(args[0]))
    with torch.no_grad():
        model(torch.tensor([text]), past_key_values=cache.fork(), use_cache=True)
    hook.remove()
    return taken[0].view(len(text), model.config.num_attention_heads, -1)


def test_the_first_layer_by_hand():
    """In the first layer the queries do not depend on the cache, so both courses meet the same ones."""
    model = models.tiny("llama")
    caches = read(model, ["full", "knorm @ 25%"])
    gaps = []
    for text in TEXTS:
        full, other = (outputs_of_layer_0(model, cache, text) for cache in caches)
        gaps += ((other - full).norm(dim=-1) / full.norm(dim=-1)).flatten().tolist()
    gap = error.Gap(2)
    first = Only(gap, layer=0)
    error._feed(model, caches, TEXTS, first)
    assert gap.means()[0] == 0
    assert gap.means()[1] == pytest.approx(sum(gaps) / len(gaps), rel=1e-4)
    assert gap.means()[1] > 0.01


class Only:
    """Passes one layer on."""

    def __init__(self, gap, layer):
        self.gap, self.layer = gap, layer

    def __call__(self, layer, outs, mask):
        if layer == self.layer:
            self.gap(layer, outs, mask)


def test_batches_and_padding_change_nothing(monkeypatch):
    model = models.tiny("llama")
    caches = read(model, ["full", "snapkv(window=8) @ 25%", "int4", "h2o @ 50%"])
    together = error.attention_errors(model, caches, TEXTS)
    monkeypatch.setattr(error, "MOST_BYTES", 1)
    apart = error.attention_errors(model, caches, TEXTS)
    assert together == pytest.approx(apart, rel=1e-4)
    n = [len(text) for text in TEXTS]
    single = [error.attention_errors(model, caches, [text]) for text in TEXTS]
    weighted = [sum(w * s[i] for w, s in zip(n, single, strict=True)) / sum(n) for i in range(len(caches))]
    assert together == pytest.approx(weighted, rel=1e-4)


def test_more_kept_is_closer_and_the_caches_stay_as_they_are():
    model = models.tiny("llama")
    caches = read(model, ["full", "random @ 90%", "random @ 20%", "int8"])
    before = [(cache.seen, cache.nbytes, cache.kept_positions(1)) for cache in caches]
    full, most, least, coded = error.attention_errors(model, caches, TEXTS)
    assert full == 0
    assert 0 < coded < most < least
    assert [(cache.seen, cache.nbytes, cache.kept_positions(1)) for cache in caches] == before
