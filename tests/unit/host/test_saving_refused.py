"""Files that a cache is not read from: of other models, changed in any bit, of a later version."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
import torch

from keyvalise import KVCache, detach
from keyvalise.host import assets, identity, saving
from keyvalise.store import file
from keyvalise.types.errors import (
    AssetError,
    CacheFileError,
    Damaged,
    FutureVersion,
    OtherModel,
    TornForward,
)
from tests.support import profiles
from tests.support.cachefiles import mutated, retold
from tests.support.models import tiny
from tests.unit.host.kept import MIXED, stored


class TestRefused:
    def test_other_models(self) -> None:
        data = saving.dumps(stored())
        rope = copy.deepcopy(tiny("llama"))
        rope.config.rope_parameters = {**rope.config.rope_parameters, "rope_theta": 500.0}
        weight = copy.deepcopy(tiny("llama"))
        with torch.no_grad():
            weight.model.layers[2].mlp.up_proj.weight[3, 3] += 1e-3
        for model, words in (
            (tiny("qwen3"), "architecture: LlamaForCausalLM in the file, Qwen3ForCausalLM in this model; "),
            (tiny("llama", num_hidden_layers=2), "number of layers: 3 in the file, 2 in this model; "),
            (tiny("llama", torch.float64), "dtype: float32 in the file, float64 in this model; "),
            (rope, "rope_parameters.rope_theta: 10000.0 in the file, 500.0 in this model"),
            (weight, "digest of the weights: [0-9a-f]{12} in the file, [0-9a-f]{12} in this model"),
        ):
            with pytest.raises(OtherModel, match=f"^the cache file is not of this model: {words}"):
                saving.loads(data, model)

    def test_other_tokenizers(self) -> None:
        import keyvalise

        tokenizer = keyvalise.reference()[1]
        other = copy.deepcopy(tokenizer)
        other.add_tokens(["sparkle"])
        cache = stored()
        data = saving.dumps(cache, tokenizer=tokenizer)
        assert saving.loads(data, tiny("llama"), tokenizer=tokenizer).seen == 63
        assert saving.loads(data, tiny("llama")).seen == 63
        with pytest.raises(OtherModel, match="digest of the tokenizer: "):
            saving.loads(data, tiny("llama"), tokenizer=other)
        with pytest.raises(OtherModel, match="digest of the tokenizer: not told in the file, "):
            saving.loads(saving.dumps(cache), tiny("llama"), tokenizer=tokenizer)

    def test_other_assets(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        model = tiny("llama")
        data = saving.dumps(stored("duo(sinks=2, recent=5) @ 40%"))
        monkeypatch.setenv(assets.VARIABLE, str(tmp_path))
        with pytest.raises(AssetError, match="no asset 'duo'"):
            saving.loads(data, model)
        profiles.give(model, (1, 0, 3, 2))
        with pytest.raises(OtherModel, match=r"was made with other assets than those kept .*: duo"):
            saving.loads(data, model)

    def test_later_layouts_and_kinds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = saving.dumps(stored())
        monkeypatch.setattr(identity, "LAYOUT", 0)
        with pytest.raises(FutureVersion, match="has layout 2; this library reads layout 0"):
            saving.loads(data, tiny("llama"))

    def test_headers_that_another_writer_got_wrong(self) -> None:
        data, model = saving.dumps(stored()), tiny("llama")
        for name in json.loads(json.dumps(file.opened(data).header)):
            lacking = retold(data, lambda inner, outer, name=name: inner.pop(name))
            with pytest.raises(CacheFileError):
                saving.loads(lacking, model)
        for layers in ({}, {"0": {}}, [], None):
            with pytest.raises(Damaged):
                saving.loads(retold(data, lambda inner, outer, x=layers: inner.update(layers=x)), model)

    def test_models_that_have_gone_or_changed(self) -> None:
        model = copy.deepcopy(tiny("llama"))
        cache = KVCache(model)
        with torch.no_grad():
            model.lm_head.weight.mul_(2)
        with pytest.raises(CacheFileError, match="weights of LlamaForCausalLM were changed or moved after"):
            saving.dumps(cache)
        cache = KVCache(model)
        saving.dumps(cache)
        detach(model)
        del model
        with pytest.raises(CacheFileError, match="the model that this cache was made for is gone"):
            saving.dumps(cache)

    def test_forwards_that_stopped_half_way(self) -> None:
        cache = stored()
        cache.layers[2].columns += 1
        with pytest.raises(TornForward, match="stopped half way: the layers have seen 63 to 64 tokens"):
            saving.dumps(cache)

    def test_layers_that_hold_what_cannot_be_stored(self) -> None:
        cache = stored(family="gemma3")
        cache.layers[0].gadget = object()
        with pytest.raises(CacheFileError, match=r"layer 0 \(.*\) holds a object under 'gadget'"):
            saving.dumps(cache)


def everything(cache: KVCache) -> int:
    """Touch all that a cache holds."""
    return cache.nbytes


MUTATIONS = [
    pytest.param(1000, id="1000"),
    pytest.param(10_000, id="10000", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("n", MUTATIONS)
def test_whatever_is_changed_is_refused(n: int) -> None:
    model = tiny("llama")
    recipes = ("full", "knorm @ 40%", MIXED, "kivi(4, group=8, residual=16)", "h2o @ 20tok")
    files = [saving.dumps(stored(recipe)) for recipe in recipes]
    chance, refused = random.Random(n), 0
    while refused < n:
        data = chance.choice(files)
        wrong = mutated(data, [one for one in files if one is not data], chance)
        if wrong == data:
            continue
        is_lazy = refused % 10 == 0
        with pytest.raises(CacheFileError):
            everything(saving.loads(wrong, model, lazy=is_lazy))
        refused += 1
