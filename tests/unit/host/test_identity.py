"""Who a model is: every byte of its weights, its shapes, its rotation; told in words where two differ."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from keyvalise import KVCache, detach
from keyvalise.host import identity, weights
from keyvalise.host.identity import Identity
from keyvalise.types.errors import Damaged, UnsupportedModel
from tests.support.models import tiny


def other(**changes: Any) -> Any:
    """A copy of the tiny Llama whose configuration is changed after its weights were made."""
    model = copy.deepcopy(tiny("llama"))
    for name, value in changes.items():
        setattr(model.config, name, value)
    return model


def test_a_copy_is_the_same_model_whatever_serves_its_attention() -> None:
    model = copy.deepcopy(tiny("llama"))
    detach(model)
    before = Identity.of(model)
    KVCache(model, "knorm @ 40%")
    assert Identity.of(model) == before == Identity.of(tiny("llama"))
    assert Identity.of(model).key == before.key
    assert Identity.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize("family", ["qwen3_next", "gemma3", "gpt2", "bloom", "deepseek_v3", "llama4"])
def test_every_family_has_one(family: str) -> None:
    made = Identity.of(tiny(family))
    assert made.differences(Identity.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))) == []
    assert made.key != Identity.of(tiny("llama")).key
    assert made.differences(Identity.of(tiny("llama")))[0].startswith("architecture: ")


def test_differences_in_words() -> None:
    mine = Identity.of(tiny("llama"))
    rope = {**tiny("llama").config.rope_parameters, "rope_theta": 500.0}
    assert mine.differences(Identity.of(other(rope_parameters=rope))) == [
        "rope_parameters.rope_theta: 10000.0 in the file, 500.0 in this model"
    ]
    assert mine.differences(Identity.of(other(rms_norm_eps=1e-3))) == [
        "rms_norm_eps: 1e-06 in the file, 0.001 in this model"
    ]
    half = copy.deepcopy(tiny("llama")).half()
    assert mine.differences(Identity.of(half))[0] == "dtype: float32 in the file, float16 in this model"
    deep = mine.differences(Identity.of(tiny("llama", num_hidden_layers=2)))
    assert deep[0] == "number of layers: 3 in the file, 2 in this model"
    few = mine.differences(Identity.of(tiny("llama", num_key_value_heads=2)))
    assert few[0] == "number of kv heads: 4 in the file, 2 in this model"


def test_frequencies_that_were_changed_in_place_are_noticed() -> None:
    model = other()
    model.model.rotary_emb.inv_freq *= 1.5
    (found,) = Identity.of(tiny("llama")).differences(Identity.of(model))
    assert found.startswith("model.rotary_emb.inv_freq frequencies: [1.0, ")
    close = other()
    close.model.rotary_emb.inv_freq *= 1 + 1e-7
    assert Identity.of(tiny("llama")).differences(Identity.of(close)) == []


def test_settings_that_only_a_later_host_knows_do_not_count() -> None:
    mine, theirs = Identity.of(tiny("llama")), Identity.of(other(sparkle=True))
    assert mine.differences(theirs) == ["sparkle: null in the file, true in this model"]
    later = Identity(**{**theirs.to_dict(), "adapters": (), "host": "9.0"})
    assert mine.differences(later) == []


def test_every_bit_of_every_weight_counts() -> None:
    model = other()
    for name, tensor in model.state_dict(keep_vars=True).items():
        before = weights.digest(model)
        with torch.no_grad():
            last = tensor.view(-1)[-1:].view(torch.uint8)
            last.bitwise_xor_(1)
            assert weights.digest(model) != before, name
            assert weights.digest(copy.deepcopy(model)) == weights.digest(model), name
            last.bitwise_xor_(1)
        assert weights.digest(model) == before


def test_only_what_has_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    read, once = [], weights._of_bytes
    monkeypatch.setattr(weights, "_of_bytes", lambda tensor: (read.append(tensor), once(tensor))[1])
    model = other()
    first = weights.digest(model)
    assert len(read) == len(dict(model.named_parameters()))
    assert weights.digest(model) == first and len(read) == len(dict(model.named_parameters()))
    read.clear()
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        attention.q_proj.weight.mul_(2)  # in place, as optimisers do
    second = weights.digest(model)
    attention.k_proj.weight.data.mul_(2)  # in place, behind autograd's back
    third = weights.digest(model)
    attention.v_proj.weight = torch.nn.Parameter(attention.v_proj.weight * 2)  # replaced
    assert len({first, second, third, weights.digest(model)}) == 4
    assert [one is two for one, two in zip(read, [m.weight for m in (
        attention.q_proj, attention.k_proj, attention.v_proj)], strict=True)] == [True] * 3  # fmt: skip


def test_weights_that_are_elsewhere_are_refused() -> None:
    model = other()
    model.model.layers[1].mlp.to("meta")
    with pytest.raises(UnsupportedModel, match=r"layers\.1\.mlp.* of LlamaForCausalLM is not in memory"):
        weights.digest(model)


def test_adapters_are_told_even_where_they_are_switched_off() -> None:
    model = other()
    attention = model.model.layers[0].self_attn
    attention.active_adapters, attention.disable_adapters = ["tutor"], False
    on = Identity.of(model)
    attention.disable_adapters = True
    off = Identity.of(model)
    assert (on.adapters, off.adapters) == (("tutor",), ("tutor (off)",))
    assert Identity.of(tiny("llama")).differences(on) == ["adapters: none in the file, tutor in this model"]
    assert on.differences(off) == ["adapters: tutor in the file, tutor (off) in this model"]


@pytest.fixture(scope="module")
def reference_tokenizer() -> Any:
    import keyvalise

    return keyvalise.reference()[1]


class TestTokenizer:
    def test_calls_leave_no_trace(self, reference_tokenizer: Any) -> None:
        before = identity.of_tokenizer(reference_tokenizer)
        reference_tokenizer(["a b", "c"], padding=True, truncation=True, max_length=4)
        assert identity.of_tokenizer(reference_tokenizer) == before

    def test_words_and_templates_count(self, reference_tokenizer: Any) -> None:
        before = identity.of_tokenizer(reference_tokenizer)
        other = copy.deepcopy(reference_tokenizer)
        other.chat_template = "{{ messages }}"
        more = copy.deepcopy(reference_tokenizer)
        more.add_tokens(["sparkle"])
        assert len({before, identity.of_tokenizer(other), identity.of_tokenizer(more)}) == 3

    def test_a_plain_one_is_known_by_its_vocabulary(self) -> None:
        def plain(**vocabulary: int) -> Any:
            return SimpleNamespace(get_vocab=lambda: vocabulary, special_tokens_map={"bos_token": "<s>"})

        assert identity.of_tokenizer(plain(a=1)) == identity.of_tokenizer(plain(a=1))
        assert identity.of_tokenizer(plain(a=1)) != identity.of_tokenizer(plain(a=2))


def test_a_description_that_lacks_something_is_damaged() -> None:
    data = Identity.of(tiny("llama")).to_dict()
    del data["weights"]
    with pytest.raises(Damaged, match=r"the model of the cache file is not described: .*weights"):
        Identity.from_dict(data)


def test_assets_are_known_by_their_content() -> None:
    one = {"duo": {"heads": torch.ones(2, 3)}}
    assert identity.of_assets(one) == identity.of_assets({"duo": {"heads": torch.ones(2, 3)}})
    for changed in (torch.ones(3, 2), torch.ones(2, 3).double(), torch.ones(2, 3) * 2):
        assert identity.of_assets({"duo": {"heads": changed}}) != identity.of_assets(one)
